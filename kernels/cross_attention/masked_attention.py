# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Attention of projected queries to projected keys."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mesm_plugin.kernels.cpu.suitable import in_float32, suitable
from mesm_plugin.kernels.cross_attention.reference import attend


def masked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    dropout_p: float = 0.0,
    query_mask: Tensor | None = None,
) -> Tensor:
    """Multi-head attention to masked keys, by the fastest implementation that the device has.

    On a CPU a C++ operator does it (float32 and float64): it keeps no weights for the backward pass, and leaves out
    what lies behind the last valid key and query of an item. Under autocast to bfloat16 it computes in float32 and
    returns the dtype of the query. The rest is PyTorch's.

    Args:
        query: (B, Lq, H, d).
        key: (B, Lk, H, d).
        value: (B, Lk, H, dv).
        mask: (B, Lk) bool, True = valid key.
        dropout_p: Share of the attention weights that is dropped, in [0, 1).
        query_mask: (B, Lq) bool, True = valid, or None = all. What comes out of the other queries is not to be used: it
            is finite, and no gradient need go through them.

    Returns:
        (B, Lq, H, dv).
    """
    scale = query.shape[-1] ** -0.5
    if suitable(query, key, value):
        return attend_in_cpp(query, key, value, mask, scale, dropout_p, query_mask)
    if dropout_p > 0 and not query.is_cuda:
        # PyTorch has no fused kernel for this on a CPU, and its fallback copies the weights more often.
        return attend(query, key, value, mask, scale, dropout_p)
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    attended = F.scaled_dot_product_attention(query, key, value, mask[:, None, None, :], dropout_p)
    return attended.transpose(1, 2)


def attend_in_cpp(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    scale: float,
    dropout_p: float = 0.0,
    query_mask: Tensor | None = None,
) -> Tensor:
    """`reference.attend` by the C++ operator, for `suitable` tensors; for `query_mask` see `masked_attention`."""
    tensors = in_float32(query, key, value)
    return torch.ops.mesm_plugin.attention(*tensors, mask, query_mask, None, dropout_p, scale)[0].to(query.dtype)
