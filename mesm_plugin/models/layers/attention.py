# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Attention of projected queries to projected keys."""

import torch.nn.functional as F
from torch import Tensor

from mesm_plugin.kernels.cross_attention.reference import attend


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout_p: float) -> Tensor:
    """Multi-head attention, by PyTorch's fused kernels where it has any.

    Args:
        query: (B, Lq, H, d).
        key: (B, Lk, H, d).
        value: (B, Lk, H, dv).
        mask: (B, Lk) bool, True = valid key.
        dropout_p: Share of the attention weights that is dropped.

    Returns:
        (B, Lq, H, dv).
    """
    if dropout_p > 0 and not query.is_cuda:
        # PyTorch has no fused kernel for this on a CPU, and its fallback copies the weights more often.
        return attend(query, key, value, mask, query.shape[-1] ** -0.5, dropout_p)
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    attended = F.scaled_dot_product_attention(query, key, value, mask[:, None, None, :], dropout_p)
    return attended.transpose(1, 2)
