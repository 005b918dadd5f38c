# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Attention of projected queries to projected keys."""

import torch.nn.functional as F
from torch import Tensor

from mesm_plugin.kernels import cross_attention


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout_p: float) -> Tensor:
    """Multi-head attention, by PyTorch's fused kernel where no weights are dropped.

    Args:
        query: (B, Lq, H, d).
        key: (B, Lk, H, d).
        value: (B, Lk, H, dv).
        mask: (B, Lk) bool, True = valid key.
        dropout_p: Share of the attention weights that is dropped.

    Returns:
        (B, Lq, H, dv).
    """
    if dropout_p > 0:
        # PyTorch has no fused kernel for this on a CPU, and its fallback copies the weights more often.
        return cross_attention(query, key, value, mask, dropout_p=dropout_p)
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, mask[:, None, None, :]).transpose(1, 2)
