# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Self-attention of one sequence."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mesm_plugin.kernels import masked_attention, projected_attention


class SelfAttention(nn.Module):
    """Multi-head self-attention with positions on queries and keys, in the parameter layout of MultiheadAttention."""

    def __init__(self, dims: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dims, dims))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dims))
        self.out_proj = nn.Linear(dims, dims)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, position: Tensor | None, mask: Tensor, rows_mask: Tensor | None = None) -> Tensor:
        """Attends within x (P, L, D), plus its positions if there are any, to the keys where mask (P, L) is True.

        What comes out where `rows_mask` (P, L) is False is not to be used.
        """
        dims = x.shape[-1]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        dropout_p = self.dropout if self.training else 0.0
        out = projected_attention(
            x, position, None, None, mask, weight, bias, self.out_proj, self.heads, dropout_p, rows_mask
        )
        if out is not None:
            return out
        query, key = F.linear(x if position is None else x + position, weight[: 2 * dims], bias[: 2 * dims]).chunk(
            2, dim=-1
        )
        value = F.linear(x, weight[2 * dims :], bias[2 * dims :])
        query, key, value = (t.unflatten(-1, (self.heads, -1)) for t in (query, key, value))
        attended = masked_attention(query, key, value, mask, dropout_p, rows_mask)
        return self.out_proj(attended.flatten(-2))
