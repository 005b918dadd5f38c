# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Cross-attention in plain PyTorch: any dtype, differentiable, the truth that the Triton kernels are held to."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mesm_plugin.kernels.cross_attention.problem_table import ProblemTable
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

    Masked keys and values must be finite: they are multiplied by zero, not left out.

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
    # An item without any valid key is left unmasked, since a softmax of -inf alone is NaN, as is its gradient.
    attended_to = mask.any(dim=1)[:, None]
    # Added, not filled in: the backward pass of a sum copies nothing.
    padding = logits.new_zeros(mask.shape).masked_fill_(~mask & attended_to, -torch.inf)
    weights = logits.add_(padding[:, None, None, :]).softmax(dim=-1)
    if dropout_p > 0 and seed is not None:
        kept = attention_dropout(seed, dropout_p, first_problem, *weights.shape)
        weights = weights * kept / (1 - dropout_p)
    elif dropout_p > 0:
        weights = F.dropout(weights, dropout_p)
    return (weights @ value).masked_fill_(~attended_to[:, :, None, None], 0.0).transpose(1, 2)


def attend_packed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    problems: ProblemTable,
    scale: float,
    dropout_p: float = 0.0,
    seed: Tensor | None = None,
    first_problem: int = 0,
) -> Tensor:
    """`attend` for each stretch of rows named by a table; all are padded to the longest ones.

    Args:
        query: (Rq, H, d).
        key: (Rk, H, d).
        value: (Rk, H, d).
        mask: (Rk,) bool, True = valid key.
        problems: Which query rows attend to which key rows.
        scale, dropout_p, seed, first_problem: See `attend`.

    Returns:
        (Rq, H, d); zeros in rows that belong to no problem.
    """
    first_query, queries, first_key, keys = problems.table.to(query.device, torch.int64).unbind(1)
    query_rows = _padded_rows(first_query, queries, problems.max_queries, query.shape[0])
    key_rows = _padded_rows(first_key, keys, problems.max_keys, key.shape[0])
    attended = attend(
        _take(query, query_rows),
        _take(key, key_rows),
        _take(value, key_rows),
        _take(mask, key_rows),
        scale,
        dropout_p,
        seed,
        first_problem,
    )
    out = query.new_zeros(query.shape[0] + 1, *query.shape[1:])
    return out.index_copy(0, query_rows.flatten(), attended.flatten(0, 1))[:-1]


def _padded_rows(first: Tensor, length: Tensor, longest: int, after_last: int) -> Tensor:
    """Rows of each stretch (P, longest), followed by `after_last`."""
    position = torch.arange(longest, device=first.device)
    return torch.where(position < length[:, None], first[:, None] + position, after_last)


def _take(x: Tensor, rows: Tensor) -> Tensor:
    """The rows of x (R, ...) as (P, longest, ...); row R is zero."""
    padded = F.pad(x, (0, 0) * (x.dim() - 1) + (0, 1))
    return padded.index_select(0, rows.flatten()).unflatten(0, rows.shape)
