# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Multi-head attention with its projections, on CPUs."""

import torch
from torch import Tensor, nn

from mesm_plugin.kernels.cpu.replaceable import replaceable
from mesm_plugin.kernels.cpu.suitable import in_float32, products_in_bfloat16, suitable


def projected_attention(
    query: Tensor,
    position: Tensor | None,
    key: Tensor | None,
    value: Tensor | None,
    key_mask: Tensor,
    in_proj_weight: Tensor,
    in_proj_bias: Tensor,
    out_proj: nn.Linear,
    heads: int,
    dropout_p: float,
    rows_mask: Tensor | None = None,
    index: Tensor | None = None,
) -> Tensor | None:
    """Projects, attends and projects again by a C++ operator, where it takes the tensors (float32 or float64, CPU).

    Rows of padding are left out. A module `out_proj` that has hooks is not taken. Under autocast to bfloat16 the
    factors of the projections and what is projected are rounded to it; all else, and what comes out, is float32.

    Args:
        query: (P, Lq, D).
        position: (P, Lq, D), or what broadcasts to it, added to it, or None.
        key: (K, Lk, D); None = the queries with their positions.
        value: (K, Lk, D); None = the key, or without one the queries.
        key_mask: (P, Lk) bool, True = valid key.
        in_proj_weight: (3 * D, D), as in `torch.nn.MultiheadAttention`.
        in_proj_bias: (3 * D,).
        out_proj: From D to D.
        heads: H.
        dropout_p: Share of the attention weights that is dropped.
        rows_mask: (P, Lq) bool, True = valid query, or None = all. What comes out of the others is not to be used: it
            is finite, and no gradient goes through it.
        index: (P,) item of key and value for each query item, None where they correspond one to one.

    Returns:
        (P, Lq, D); None where the operator does not take the tensors.
    """
    if not replaceable(out_proj):
        return None
    sources = [x for x in (query, position, key, value) if x is not None]
    parameters = (in_proj_weight, in_proj_bias, out_proj.weight, out_proj.bias)
    masks = [x for x in (key_mask, rows_mask) if x is not None]
    if dropout_p == 1 or any(not x.is_cpu or x.dtype != torch.bool for x in masks):
        return None
    if (index is not None and not index.is_cpu) or not suitable(*sources, *parameters):
        return None
    if position is not None:
        position = position.expand_as(query)
    keeps = torch.is_grad_enabled() and any(x.requires_grad for x in (*sources, *parameters))
    inputs = in_float32(query, position, key, None if value is key else value)
    return torch.ops.mesm_plugin.projected_attention(
        *inputs,
        key_mask,
        rows_mask,
        index,
        *in_float32(*parameters),
        heads,
        None,
        dropout_p,
        keeps,
        products_in_bfloat16(),
    )[0]
