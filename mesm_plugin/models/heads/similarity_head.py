# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The head that compares videos and clips with sentences (UVCOM)."""

import torch.nn.functional as F
from torch import Tensor, nn

from mesm_plugin.models.layers import MLP


class SimilarityHead(nn.Module):
    """Cosines of videos and clips with sentences, after a perceptron for each side.

    Args:
        dims: D.
        mlp_dims: Channels inside the perceptrons, which have three linear layers.
    """

    def __init__(self, dims: int, mlp_dims: int) -> None:
        super().__init__()
        self.video = MLP(dims, mlp_dims, dims, 3)
        self.sentence = MLP(dims, mlp_dims, dims, 3)

    def forward(self, video: Tensor, clips: Tensor, sentence: Tensor) -> tuple[Tensor, Tensor]:
        """Compares videos (Q, D) and clips (Q, Lv, D) with sentences (Q, D).

        Returns:
            Cosine of each video with each sentence (Q, Q), and of the clips with the sentence of theirs (Q, Lv).
        """
        sentence = F.normalize(self.sentence(sentence), dim=-1)
        video, clips = (F.normalize(self.video(x), dim=-1) for x in (video, clips))
        return video @ sentence.T, (clips @ sentence[..., None])[..., 0]
