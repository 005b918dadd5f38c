# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Loss that keeps tokens apart (CG-DETR)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mesm_plugin.registry import MODELS


@MODELS.register_module()
class OrthogonalityLoss(nn.Module):
    """Mean absolute cosine of the tokens of a set with one another, as in CG-DETR; 0 for a set of one.

    Args:
        loss_weight: Weight of the loss.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, *sets: Tensor) -> Tensor:
        """Computes the weighted sum over sets of tokens (..., L, D); a scalar."""
        losses = []
        for tokens in sets:
            tokens = F.normalize(tokens.float(), dim=-1)
            # A token is moved by its own side of a pair only.
            cosine = tokens @ tokens.detach().transpose(-1, -2)
            itself = torch.eye(tokens.shape[-2], dtype=torch.bool, device=tokens.device)
            losses.append(cosine.masked_fill(itself, 0.0).abs().mean())
        return self.loss_weight * torch.stack(losses).sum()
