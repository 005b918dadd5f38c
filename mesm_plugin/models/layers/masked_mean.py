# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Means over sequences."""

import torch
from torch import Tensor


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x (B, L, D) over the positions where mask (B, L) is True; zeros where there are none."""
    weights = mask.to(x.dtype)
    return torch.einsum("bld,bl->bd", x, weights) / weights.sum(dim=1, keepdim=True).clamp(min=1)
