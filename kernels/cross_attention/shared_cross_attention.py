# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The module that owns the projections which FW-MESM's two directions share."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mesm_plugin.kernels.arguments import autocasting, check_number, check_tensors, integer
from mesm_plugin.kernels.backend import Backend, asked_for, check_backend
from mesm_plugin.kernels.cross_attention.attention import bidirectional_cross_attention, cross_attention
from mesm_plugin.kernels.cross_attention.projected_attention import projected_attention


class SharedCrossAttention(nn.Module):
    """Multi-head cross-attention whose weights serve both directions (Sec. 3.3 of MESM).

    The parameters have the layout of `torch.nn.MultiheadAttention`, so its state dicts load. The rows of both
    directions are projected together, by one matrix product for all queries and one for all keys and values (two where
    a key is not its value). Keys and values are projected once per distinct item and only then repeated for the pairs,
    by an index.

    Args:
        dims: D, channels of all inputs.
        heads: H, attention heads.
        dropout: Share of the attention weights that is dropped in training, in [0, 1).
        backend: See `bidirectional_cross_attention`.

    Raises:
        TypeError: `dims` or `heads` is no integer, or `dropout` no number.
        ValueError: `heads` does not divide `dims`, `dropout` is out of range, or `backend` is unknown.
    """

    def __init__(self, dims: int, heads: int, dropout: float = 0.0, backend: Backend = "auto") -> None:
        super().__init__()
        for name, value in (("dims", dims), ("heads", heads)):
            if integer(name, value) < 1:
                raise ValueError(f"{name} must be positive, got {value}")
        if dims % heads:
            raise ValueError(f"heads must divide dims, got dims={dims} and heads={heads}")
        check_number("dropout", dropout)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        check_backend(backend)
        self.heads = heads
        self.dropout = dropout
        self.backend = backend
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dims, dims))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dims))
        self.out_proj = nn.Linear(dims, dims)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def _check_direction(self, named: dict[str, Any]) -> None:
        """Checks the named query, key, value and index of a direction; the mask is left to the attention.

        Raises:
            TypeError: One is no tensor.
            ValueError: A shape, dtype or device is wrong.
        """
        (query_name, query), (key_name, key), (value_name, value), (index_name, index) = named.items()
        inputs = {query_name: query, key_name: key, value_name: value}
        check_tensors(inputs)
        weight = self.in_proj_weight
        for name, x in inputs.items():
            if x.dim() != 3 or x.shape[2] != weight.shape[1]:
                raise ValueError(
                    f"{name} must have shape (items, length, {weight.shape[1]}), the last being dims, "
                    f"got {tuple(x.shape)}"
                )
            if x.device != weight.device:
                raise ValueError(f"{name} must be on the device of the weights, {weight.device}, got {x.device}")
            if x.dtype != weight.dtype and not autocasting(x.device):
                raise ValueError(f"{name} must have the dtype of the weights, {weight.dtype}, got {x.dtype}")
        if value.shape != key.shape:
            raise ValueError(
                f"{value_name} must have the shape of {key_name}, got {tuple(value.shape)} and {tuple(key.shape)}"
            )
        items = query.shape[0]
        if index is None:
            if key.shape[0] != items:
                raise ValueError(
                    f"{key_name} must have the {items} items of {query_name}, got {key.shape[0]}; "
                    f"or {index_name} must say which item each needs"
                )
            return
        check_tensors({index_name: index})
        if index.shape != (items,) or index.dtype not in (torch.int32, torch.int64) or index.device != weight.device:
            raise ValueError(
                f"{index_name} must be int64 of shape {(items,)}, the items of {query_name}, on {weight.device}, "
                f"got {index.dtype} of shape {tuple(index.shape)} on {index.device}"
            )

    def _linear(self, inputs: Sequence[Tensor], weight: Tensor, bias: Tensor) -> list[Tensor]:
        """Projects the rows of all inputs (B, L, D) by one product, to (B, L, parts, H, d) each."""
        rows = [x.flatten(0, 1) for x in inputs]
        projected = F.linear(rows[0] if len(rows) == 1 else torch.cat(rows), weight, bias)
        projected = projected.unflatten(-1, (-1, self.heads, inputs[0].shape[-1] // self.heads))
        return [
            part.unflatten(0, x.shape[:2])
            for part, x in zip(projected.split([len(r) for r in rows]), inputs, strict=True)
        ]

    def _project(
        self,
        queries: Sequence[Tensor],
        keys: Sequence[Tensor],
        values: Sequence[Tensor],
        indices: Sequence[Tensor | None],
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Projects the inputs of all directions, by one product per distinct kind of input.

        Args:
            queries: (B, Lq, D) of each direction.
            keys, values: (K, Lk, D) of each direction.
            indices: (B,) item of keys and values for each query, or None, of each direction.

        Returns:
            Queries (B, Lq, H, d), keys and values (B, Lk, H, d) of each direction.
        """
        dims = self.out_proj.in_features

        def select(x: Tensor, index: Tensor | None) -> Tensor:
            return x if index is None else x.index_select(0, index)

        if all(key is value for key, value in zip(keys, values, strict=True)):
            weights, biases = (x.split((dims, 2 * dims)) for x in (self.in_proj_weight, self.in_proj_bias))
            both = self._linear(keys, weights[1], biases[1])
            pairs = [select(x, index).unbind(2) for x, index in zip(both, indices, strict=True)]
        else:
            weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
            parts = (self._linear(x, weights[i], biases[i]) for i, x in ((1, keys), (2, values)))
            pairs = [
                (select(key, index).squeeze(2), select(value, index).squeeze(2))
                for key, value, index in zip(*parts, indices, strict=True)
            ]
        projected = self._linear(queries, weights[0], biases[0])
        return [(query.squeeze(2), key, value) for query, (key, value) in zip(projected, pairs, strict=True)]

    def _project_and_attend(
        self,
        query: Tensor,
        position: Tensor | None,
        key: Tensor,
        value: Tensor,
        mask: Tensor,
        index: Tensor | None,
        rows_mask: Tensor | None,
    ) -> Tensor | None:
        """One direction by the C++ operator for CPUs; None where it does not take the inputs."""
        fits = isinstance(mask, Tensor) and mask.shape == (len(query), key.shape[1])
        if not fits or asked_for(self.backend) != "auto":
            return None
        return projected_attention(
            query,
            position,
            key,
            value,
            mask,
            self.in_proj_weight,
            self.in_proj_bias,
            self.out_proj,
            self.heads,
            self.dropout if self.training else 0.0,
            rows_mask,
            index,
        )

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor,
        index: Tensor | None = None,
        position: Tensor | None = None,
        rows_mask: Tensor | None = None,
    ) -> Tensor:
        """Attends in one direction.

        Under autocast inputs of other dtypes than the weights' are taken. The outputs are in autocast's dtype; on a CPU
        they are float32 where the C++ operator of `projected_attention` does the work, with the backend "auto" and
        autocast to bfloat16.

        Args:
            query: (P, Lq, D).
            key: (Q, Lk, D).
            value: (Q, Lk, D).
            mask: (P, Lk) bool, True = valid key.
            index: (P,) item of `key` and `value` for each query item, None where they correspond one to one.
            position: (P, Lq, D) added to `query`, or None.
            rows_mask: (P, Lq) bool, True = valid query, or None = all; what comes out of the others is not to be used.

        Returns:
            (P, Lq, D).

        Raises:
            TypeError: An input is no tensor.
            ValueError: A shape, dtype or device is wrong.
        """
        self._check_direction({"query": query, "key": key, "value": value, "index": index})
        out = self._project_and_attend(query, position, key, value, mask, index, rows_mask)
        if out is not None:
            return out
        if position is not None:
            query = query + position
        [projected] = self._project([query], [key], [value], [index])
        attended = cross_attention(
            *projected, mask, dropout_p=self.dropout if self.training else 0.0, backend=self.backend
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
        clips_position: Tensor | None = None,
        words_position: Tensor | None = None,
        rows_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attends from clips to words and from masked words to clips in one call.

        Under autocast inputs of other dtypes than the weights' are taken. The outputs are in autocast's dtype; on a CPU
        they are float32 where the C++ operator of `projected_attention` does the work, with the backend "auto" and
        autocast to bfloat16.

        Args:
            clips_query: (P, Lv, D).
            words_key, words_value: (Q, Lw, D), repeated for the pairs by `words_index` (P,).
            words_mask: (P, Lw) bool, True = valid.
            words_index: (P,) or None where words and pairs correspond one to one.
            words_query: (Q, Lw, D) masked words.
            clips_key, clips_value: (V, Lv, D), repeated for the queries by `clips_index` (Q,).
            clips_mask: (Q, Lv) bool, True = valid.
            clips_index: (Q,) or None where clips and queries correspond one to one.
            clips_position: (P, Lv, D) added to `clips_query`, or None.
            words_position: (Q, Lw, D) added to `words_query`, or None.
            rows_mask: (P, Lv) bool, True = valid clip of a pair, or None = all; what comes out of other clips is not to
                be used.

        Returns:
            (P, Lv, D) and (Q, Lw, D).

        Raises:
            TypeError: An input is no tensor.
            ValueError: A shape, dtype or device is wrong.
        """
        self._check_direction(
            {
                "clips_query": clips_query,
                "words_key": words_key,
                "words_value": words_value,
                "words_index": words_index,
            }
        )
        self._check_direction(
            {
                "words_query": words_query,
                "clips_key": clips_key,
                "clips_value": clips_value,
                "clips_index": clips_index,
            }
        )
        attended_clips = self._project_and_attend(
            clips_query, clips_position, words_key, words_value, words_mask, words_index, rows_mask
        )
        if attended_clips is not None:
            attended_words = self._project_and_attend(
                words_query, words_position, clips_key, clips_value, clips_mask, clips_index, None
            )
            if attended_words is not None:
                return attended_clips, attended_words
        if clips_position is not None:
            clips_query = clips_query + clips_position
        if words_position is not None:
            words_query = words_query + words_position
        clips, words = self._project(
            [clips_query, words_query],
            [words_key, clips_key],
            [words_value, clips_value],
            [words_index, clips_index],
        )
        attended = bidirectional_cross_attention(
            *clips,
            words_mask,
            *words,
            clips_mask,
            dropout_p=self.dropout if self.training else 0.0,
            backend=self.backend,
        )
        rows = [x.flatten(2).flatten(0, 1) for x in attended]
        outputs = self.out_proj(torch.cat(rows)).split([len(r) for r in rows])
        return outputs[0].view_as(clips_query), outputs[1].view_as(words_query)
