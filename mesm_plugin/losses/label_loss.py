# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Losses of the foreground classification (the third term of Eq. 7)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mesm_plugin.losses.joint_mean import joint_mean
from mesm_plugin.registry import MODELS


def _mean_over_last(loss: Tensor, dims: int) -> Tensor:
    """Mean over the last `dims` dimensions."""
    return joint_mean(loss.flatten(-dims).sum(dim=-1), math.prod(loss.shape[-dims:]))


@MODELS.register_module()
class LabelLoss(nn.Module):
    """Cross-entropy of foreground against background over all object queries (lambda_ce of Eq. 7).

    As in the peers, the weighted values are averaged over the number of object queries, not over the sum of weights.

    Args:
        loss_weight: lambda_ce.
        background_weight: Weight of the object queries that no moment is matched to.
    """

    class_weight: Tensor

    def __init__(self, loss_weight: float = 4.0, background_weight: float = 0.1) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.register_buffer("class_weight", torch.tensor([1.0, background_weight]), persistent=False)

    def forward(self, logits: Tensor, foreground: Tensor) -> Tensor:
        """Compares the logits of one decoder layer, or several, to what was matched.

        Args:
            logits: (..., Q, N, 2), foreground first.
            foreground: (..., Q, N) bool.

        Returns:
            (...), a scalar for a single layer.
        """
        target = (~foreground).long()
        loss = F.cross_entropy(logits.float().flatten(0, -2), target.flatten(), self.class_weight, reduction="none")
        return self.loss_weight * _mean_over_last(loss.view(foreground.shape), dims=2)


@MODELS.register_module()
class FocalLabelLoss(nn.Module):
    """Sigmoid focal loss of both classes, mean over classes and object queries (TR-DETR).

    Args:
        loss_weight: lambda_ce.
        alpha: Weight of the class that an object query has; the other class's is 1 - alpha.
        gamma: How fast the weight falls with the probability of the right answer.
    """

    def __init__(self, loss_weight: float = 4.0, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, logits: Tensor, foreground: Tensor) -> Tensor:
        """See `LabelLoss.forward`."""
        target = torch.stack((foreground, ~foreground), dim=-1)
        # Logits of the right answer to "is it this class".
        right = torch.where(target, logits, -logits).float()
        weight = torch.where(target, self.alpha, 1 - self.alpha) * (-right).sigmoid() ** self.gamma
        return self.loss_weight * _mean_over_last(weight * F.softplus(-right), dims=3)
