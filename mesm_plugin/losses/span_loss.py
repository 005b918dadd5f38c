# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Losses of matched spans (the first two terms of Eq. 7)."""

from torch import Tensor, nn

from mesm_plugin.losses.joint_mean import joint_mean
from mesm_plugin.registry import MODELS
from mesm_plugin.structures import cxw_to_xx, span_giou, xx_to_cxw


def mean_over_matched(values: Tensor, matched: Tensor) -> Tensor:
    """Mean of values (..., Q, M) where matched (..., Q, M) is True, over the last two; 0 where nothing is."""
    return joint_mean(values.masked_fill(~matched, 0.0).sum(dim=(-2, -1)), matched.sum(dim=(-2, -1)))


@MODELS.register_module()
class SpanL1Loss(nn.Module):
    """Mean distance of matched centres and widths (lambda_L1 of Eq. 7).

    Args:
        loss_weight: lambda_L1.
    """

    def __init__(self, loss_weight: float = 10.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, spans: Tensor, moments: Tensor, matched: Tensor) -> Tensor:
        """Compares matched spans, of one decoder layer or several, to moments.

        Args:
            spans: (..., Q, M, 2) centre and width.
            moments: (Q, M, 2) start and end.
            matched: (..., Q, M) bool, True where they are to be compared.

        Returns:
            (...), a scalar for a single layer.
        """
        distance = (spans - xx_to_cxw(moments)).abs().mean(dim=-1)
        return self.loss_weight * mean_over_matched(distance, matched)


@MODELS.register_module()
class SpanGIoULoss(nn.Module):
    """Mean of 1 - generalised IoU of matched spans (lambda_iou of Eq. 7).

    Args:
        loss_weight: lambda_iou.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, spans: Tensor, moments: Tensor, matched: Tensor) -> Tensor:
        """Compares matched spans, of one decoder layer or several, to moments.

        Args:
            spans: (..., Q, M, 2) centre and width.
            moments: (Q, M, 2) start and end.
            matched: (..., Q, M) bool, True where they are to be compared.

        Returns:
            (...), a scalar for a single layer.
        """
        return self.loss_weight * mean_over_matched(1 - span_giou(cxw_to_xx(spans), moments), matched)
