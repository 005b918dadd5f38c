# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Prototypes of a sequence by expectation-maximisation (UVCOM)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_VARIANCE = 1.2**2


class Prototypes(nn.Module):
    """Rounds in which each item is divided among prototypes, and each prototype becomes the mean of what it got.

    Args:
        dims: D.
        num_prototypes: K.
        num_iterations: Rounds.
        count_padding: Whether padded items take part, as in the authors' code, so that the prototypes depend on the
            amount of padding.
    """

    def __init__(self, dims: int, num_prototypes: int, num_iterations: int, count_padding: bool = False) -> None:
        super().__init__()
        self.num_iterations = num_iterations
        self.count_padding = count_padding
        self.initial = nn.Parameter(torch.empty(num_prototypes, dims))
        nn.init.xavier_uniform_(self.initial)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Returns the prototypes (B, K, D) of x (B, L, D) with mask (B, L) bool, True = valid."""
        prototypes = self.initial.expand(len(x), -1, -1)
        direction = F.normalize(x, dim=-1).transpose(1, 2)
        for _ in range(self.num_iterations):
            # Of unit vectors, the squared distance is 2 - 2 cosines.
            share = (F.normalize(prototypes, dim=-1) @ direction / _VARIANCE).softmax(dim=1)
            if not self.count_padding:
                share = share.masked_fill(~mask[:, None], 0.0)
            prototypes = share / (share.sum(dim=2, keepdim=True) + 1e-9) @ x
        return prototypes
