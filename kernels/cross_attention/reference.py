# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Cross-attention in plain PyTorch: any dtype, differentiable, the truth that the Triton kernels are held to."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mesm_plugin.kernels.philox import attention_dropout


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    scale: float,
    dropout_p: float = 0.0,
    seed: Tensor | None = None,
    first_problem: int = 0,
) -> Tensor:
    """softmax(Q K^T * scale) V, the attention of Eq. 1 and Eq. 2 of MESM, with masked keys and dropout of the weights.

    Args:
        query: (B, Lq, H, d).
        key: (B, Lk, H, d).
        value: (B, Lk, H, dv).
        mask: (B, Lk) bool, True = valid key.
        scale: Factor of the dot products.
        dropout_p: Share of the attention weights that is dropped.
        seed: () int64 that decides which; None = PyTorch's generator does.
        first_problem: Number of the first item in the random numbers of `seed`.

    Returns:
        (B, Lq, H, dv) in the dtype of `query`; zeros, with zero gradients, where an item has no valid key.
    """
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    logits = (query * scale) @ key.transpose(-1, -2)
    # Added, not filled in: the backward pass of a sum copies nothing. Half of the lowest number leaves the logit room.
    padding = logits.new_zeros(mask.shape).masked_fill_(~mask, torch.finfo(logits.dtype).min / 2)
    weights = logits.add_(padding[:, None, None, :]).softmax(dim=-1)
    if dropout_p > 0 and seed is not None:
        kept = attention_dropout(seed, dropout_p, first_problem, *weights.shape)
        weights = weights * kept / (1 - dropout_p)
    elif dropout_p > 0:
        weights = F.dropout(weights, dropout_p)
    attended = (weights @ value).transpose(1, 2)
    # The softmax of a fully masked row is uniform, not zero.
    return attended.masked_fill(~mask.any(dim=1)[:, None, None, None], 0.0)


def attend_packed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    problems: list[tuple[int, int, int, int]],
    scale: float,
    dropout_p: float = 0.0,
    seed: Tensor | None = None,
    first_problem: int = 0,
) -> Tensor:
    """`attend` for each stretch of rows named by a table.

    Args:
        query: (Rq, H, d).
        key: (Rk, H, d).
        value: (Rk, H, d).
        mask: (Rk,) bool, True = valid key.
        problems: (first query row, queries, first key row, keys) of each problem.
        scale, dropout_p, seed, first_problem: See `attend`.

    Returns:
        (Rq, H, d); zeros in rows that belong to no problem.
    """
    out = torch.zeros_like(query)
    # Without problems, an empty one ties the output to the inputs, so that they have gradients.
    for number, (query_row, queries, key_row, keys) in enumerate(problems or [(0, 0, 0, 0)], first_problem):
        rows, columns = slice(query_row, query_row + queries), slice(key_row, key_row + keys)
        q, k, v, valid = (x[None] for x in (query[rows], key[columns], value[columns], mask[columns]))
        out[rows] = attend(q, k, v, valid, scale, dropout_p, seed, number)[0]
    return out
