# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Loss of the similarity of videos and clips to sentences (UVCOM)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mesm_plugin.registry import MODELS


@MODELS.register_module()
class VideoSentenceLoss(nn.Module):
    """Contrasts videos with sentences both ways, and the clips inside the moments with the others (UVCOM).

    Args:
        loss_weight: Weight of the loss.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(
        self, video_sentence: Tensor, clip_sentence: Tensor, segment_mask: Tensor, clips_mask: Tensor
    ) -> Tensor:
        """Computes the weighted loss.

        Args:
            video_sentence: (Q, Q) similarity of each video, in rows, to each sentence.
            clip_sentence: (Q, Lv) similarity of each clip to the sentence of its row.
            segment_mask: (Q, Lv) bool, True = inside the moments.
            clips_mask: (Q, Lv) bool, True = counts among the others and in the mean.

        Returns:
            A scalar.
        """
        own = torch.arange(len(video_sentence), device=video_sentence.device)
        videos, sentences = (F.cross_entropy(x.float(), own) for x in (video_sentence, video_sentence.T))
        chance = clip_sentence.float().masked_fill(~clips_mask, -torch.inf).log_softmax(dim=1)
        clips = -chance.masked_fill(~segment_mask, 0.0).sum() / clips_mask.sum()
        return self.loss_weight * ((videos + sentences) / 2 + clips) / 2
