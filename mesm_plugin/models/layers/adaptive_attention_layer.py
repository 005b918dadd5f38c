# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Cross-attention whose weights may go to dummies instead of words (CG-DETR)."""

import torch
from torch import Tensor, nn

from mesm_plugin.models.layers.attention_update import AddNormFFN


class AdaptiveAttention(nn.Module):
    """Attention without input projections; keys without a value take weight away from the others.

    Args:
        dims: D.
        heads: Attention heads.
        dropout: Dropout of attention weights.
    """

    def __init__(self, dims: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(dims, dims)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Attends to keys.

        Args:
            query: (P, Lq, D).
            key: (P, Lk, D).
            value: (P, Lw, D) values of the last Lw keys; the others have none.
            mask: (P, Lk) bool, True = valid key; at least one for each item.

        Returns:
            The attended values (P, Lq, D), and the weights of all keys (P, Lq, Lk), mean over the heads.
        """
        query, key, value = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (query, key, value))
        logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        weights = logits.masked_fill(~mask[:, None, None], -torch.inf).softmax(dim=-1)
        attended = self.dropout(weights[..., -value.shape[-2] :]).to(value.dtype) @ value
        return self.out_proj(attended.transpose(1, 2).flatten(-2)), weights.mean(dim=1)


class AdaptiveAttentionLayer(nn.Module):
    """Adaptive cross-attention and the update of the one that attends (CG-DETR).

    Args:
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the FFN.
        dropout: Dropout of attention weights and of the update.
    """

    def __init__(self, dims: int, heads: int, ffn_dims: int, dropout: float) -> None:
        super().__init__()
        self.attention = AdaptiveAttention(dims, heads, dropout)
        self.update = AddNormFFN(dims, ffn_dims, dropout, nn.PReLU())

    def forward(self, x: Tensor, position: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Lets x (P, Lq, D) with its position attend; other arguments and the weights as `AdaptiveAttention`."""
        attended, weights = self.attention(x + position, key, value, mask)
        return self.update(x, attended), weights

    def without_keys(self, x: Tensor) -> Tensor:
        """The layer for x (P, Lq, D) that attends to nothing."""
        return self.update(x, self.attention.out_proj.bias.expand_as(x))
