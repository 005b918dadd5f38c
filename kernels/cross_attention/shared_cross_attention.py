# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The module that owns the projections which FW-MESM's two directions share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mesm_plugin.kernels.cross_attention.attention import bidirectional_cross_attention, cross_attention


class SharedCrossAttention(nn.Module):
    """Multi-head cross-attention whose weights serve both directions (Sec. 3.3 of MESM).

    The parameters have the layout of `torch.nn.MultiheadAttention`, so its state dicts load. Keys and values are
    projected once per distinct item and only then repeated for the pairs, by an index.

    Args:
        dims: D, channels of all inputs.
        heads: H, attention heads.
        dropout: Share of the attention weights that is dropped in training.

    Raises:
        ValueError: `heads` does not divide `dims`.
    """

    def __init__(self, dims: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dims % heads:
            raise ValueError(f"heads must divide dims, got dims={dims} and heads={heads}")
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dims, dims))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dims))
        self.out_proj = nn.Linear(dims, dims)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def _project(self, inputs: Tensor, part: int) -> Tensor:
        rows = slice(part * inputs.shape[-1], (part + 1) * inputs.shape[-1])
        return F.linear(inputs, self.in_proj_weight[rows], self.in_proj_bias[rows]).unflatten(-1, (self.heads, -1))

    def _project_indexed(self, inputs: Tensor, part: int, index: Tensor | None) -> Tensor:
        projected = self._project(inputs, part)
        return projected if index is None else projected.index_select(0, index)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, index: Tensor | None = None) -> Tensor:
        """Attends in one direction.

        Args:
            query: (P, Lq, D).
            key: (Q, Lk, D).
            value: (Q, Lk, D).
            mask: (P, Lk) bool, True = valid key.
            index: (P,) item of `key` and `value` for each query item, None where they correspond one to one.

        Returns:
            (P, Lq, D).
        """
        attended = cross_attention(
            self._project(query, 0),
            self._project_indexed(key, 1, index),
            self._project_indexed(value, 2, index),
            mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out_proj(attended.flatten(-2))

    def both_directions(
        self,
        clips_query: Tensor,
        words_key: Tensor,
        words_value: Tensor,
        words_mask: Tensor,
        words_index: Tensor | None,
        words_query: Tensor,
        clips_key: Tensor,
        clips_value: Tensor,
        clips_mask: Tensor,
        clips_index: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Attends from clips to words and from masked words to clips in one call.

        Args:
            clips_query: (P, Lv, D).
            words_key, words_value: (Q, Lw, D), repeated for the pairs by `words_index` (P,).
            words_mask: (P, Lw) bool, True = valid.
            words_index: (P,) or None where words and pairs correspond one to one.
            words_query: (Q, Lw, D) masked words.
            clips_key, clips_value: (V, Lv, D), repeated for the queries by `clips_index` (Q,).
            clips_mask: (Q, Lv) bool, True = valid.
            clips_index: (Q,) or None where clips and queries correspond one to one.

        Returns:
            (P, Lv, D) and (Q, Lw, D).
        """
        clips, words = bidirectional_cross_attention(
            self._project(clips_query, 0),
            self._project_indexed(words_key, 1, words_index),
            self._project_indexed(words_value, 2, words_index),
            words_mask,
            self._project(words_query, 0),
            self._project_indexed(clips_key, 1, clips_index),
            self._project_indexed(clips_value, 2, clips_index),
            clips_mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out_proj(clips.flatten(-2)), self.out_proj(words.flatten(-2))
