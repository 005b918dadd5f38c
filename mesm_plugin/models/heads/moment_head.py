# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The head that turns decoder states into moments."""

from torch import Tensor, nn

from mesm_plugin.kernels import Linear
from mesm_plugin.models.layers import MLP, inverse_sigmoid

FOREGROUND = 0
"""Class of a span that holds the moment; class 1 is background."""


class MomentHead(nn.Module):
    """Classifies each object query and gives it a span, by moving its anchor where it has one (as in QD-DETR).

    Args:
        dims: D.
    """

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.span = MLP(dims, dims, 2, 3)
        self.label = Linear(dims, 2)

    def forward(self, states: Tensor, anchors: Tensor | None) -> tuple[Tensor, Tensor]:
        """Reads moments off the states.

        Args:
            states: (layers, Q, N, D).
            anchors: (layers, Q, N, 2) normalised centre and width, or None from a decoder without anchors.

        Returns:
            Logits (layers, Q, N, 2), foreground first, and spans (layers, Q, N, 2), normalised centre and width.
        """
        spans = self.span(states)
        if anchors is not None:
            spans = spans + inverse_sigmoid(anchors)
        return self.label(states), spans.sigmoid()
