# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A sentence that takes up clips (UVCOM)."""

from torch import Tensor, nn

from mesm_plugin.models.layers.masked_mean import masked_mean
from mesm_plugin.models.layers.mlp import MLP


class ClipPooling(nn.Module):
    """Rounds in which a sentence takes up the mean of the clips and passes through a perceptron.

    This is what remains of UVCOM's slot attention, where all slots start as the sentence: they stay alike, share the
    clips evenly, and queries and keys have no effect.

    Args:
        dims: D.
        num_iterations: Rounds; all use the same weights.
        mlp_dims: Channels inside the perceptron, which has three linear layers.
    """

    def __init__(self, dims: int, num_iterations: int, mlp_dims: int) -> None:
        super().__init__()
        self.num_iterations = num_iterations
        self.norm_inputs = nn.LayerNorm(dims)
        self.norm_mlp = nn.LayerNorm(dims)
        self.norm_out = nn.LayerNorm(dims)
        self.value = nn.Linear(dims, dims)
        self.mlp = MLP(dims, mlp_dims, dims, 3)

    def forward(self, sentence: Tensor, clips: Tensor, mask: Tensor) -> Tensor:
        """Lets sentences (Q, D) take up the clips (Q, Lv, D) where mask (Q, Lv) is True; returns (Q, D)."""
        mean = masked_mean(self.value(self.norm_inputs(clips)), mask)
        for _ in range(self.num_iterations):
            sentence = sentence + mean
            sentence = sentence + self.mlp(self.norm_mlp(sentence))
        return self.norm_out(sentence)
