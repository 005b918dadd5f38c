# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Floating-point operations that the model's matrix products need, those of the C++ operators included."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula

from mesm_plugin.kernels.cpu import operators_are_loaded


def count_flops(run: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products of `run`, without those of padding that is left out.

    What is computed twice to save memory counts once.
    """
    if operators_are_loaded():
        _register()
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def feed_forward_flops(x: Tensor, mask: Tensor | None, weight1: Tensor, weight2: Tensor) -> int:
    """Of the forward pass over the rows x (R, D) that `mask` (R,) does not name as padding."""
    rows = len(x) if mask is None else int(mask.sum())
    return 2 * rows * (weight1.numel() + weight2.numel())


def attention_flops(query: Tensor, value: Tensor, key_mask: Tensor, query_mask: Tensor | None) -> int:
    """Of the forward pass, up to the last valid query and key of each item."""
    _, length, heads, dims = query.shape
    keys = _lengths(key_mask)
    queries = torch.full_like(keys, length) if query_mask is None else _lengths(query_mask)
    return 2 * heads * (dims + value.shape[-1]) * int((queries * keys).sum())


def _lengths(mask: Tensor) -> Tensor:
    """One past the last True of each row."""
    return (mask * torch.arange(1, mask.shape[1] + 1)).amax(dim=1)


@functools.cache
def _register() -> None:
    def feed_forward(*inputs: Any, **_options: Any) -> int:
        x, mask, weight1, _, _, weight2, *_ = inputs
        return feed_forward_flops(x, mask, weight1, weight2)

    def feed_forward_backward(*inputs: Any, **_options: Any) -> int:
        _, x, mask, weight1, _, weight2, *_ = inputs
        return 2 * feed_forward_flops(x, mask, weight1, weight2)

    def attention(*inputs: Any, **_options: Any) -> int:
        query, _, value, key_mask, query_mask, *_ = inputs
        return attention_flops(query, value, key_mask, query_mask)

    def attention_backward(*inputs: Any, **_options: Any) -> int:
        return 2 * attention(*inputs[1:])

    for function in (feed_forward, feed_forward_backward, attention, attention_backward):
        operator = getattr(torch.ops.mesm_plugin, function.__name__)
        register_flop_formula(operator, get_raw=True)(function)
