# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Floating-point operations that the model's matrix products need, those of the C++ operators included."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, register_flop_formula

from mesm_plugin.kernels.cpu import operators_are_loaded


def count_flops(run: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products of `run`, without those of padding that is left out.

    What is computed twice to save memory counts once.
    """
    if operators_are_loaded():
        _register()
    with _Counting() as counter:
        run()
    return counter.total


class _Counting(TorchDispatchMode):
    """Adds up PyTorch's own formulas. Its `FlopCounterMode` hooks modules, for which the C++ operators step aside."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            # Without gradients, some operators arrive before they are taken apart.
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=out)
        return out


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


def projected_attention_flops(
    query: Tensor,
    key: Tensor,
    key_mask: Tensor,
    query_mask: Tensor | None,
    index: Tensor | None,
    in_weight: Tensor,
    out_weight: Tensor,
) -> int:
    """Of the forward pass over the valid queries, and over the keys that one of the query items needs."""
    items, length, _ = query.shape
    queries = torch.full((items,), length) if query_mask is None else query_mask.sum(dim=1)
    index = torch.arange(items) if index is None else index
    needed = torch.zeros(key.shape[:2], dtype=torch.int64).index_add_(0, index, key_mask.long()) > 0
    dims = in_weight.shape[0] // 3
    rows = int(queries.sum()) * (in_weight[:dims].numel() + out_weight.numel())
    rows += int(needed.sum()) * in_weight[dims:].numel()
    return 2 * rows + 4 * dims * int((queries * needed.sum(dim=1)[index]).sum())


def _lengths(mask: Tensor) -> Tensor:
    """One past the last True of each row."""
    return (mask * torch.arange(1, mask.shape[1] + 1)).amax(dim=1)


@functools.cache
def _register() -> None:
    def feed_forward(*inputs: Any, **_options: Any) -> int:
        x, _, mask, weight1, _, _, weight2, *_ = inputs
        return feed_forward_flops(x, mask, weight1, weight2)

    def feed_forward_backward(*inputs: Any, **_options: Any) -> int:
        _, x, mask, weight1, _, weight2, *_ = inputs
        return 2 * feed_forward_flops(x, mask, weight1, weight2)

    def attention(*inputs: Any, **_options: Any) -> int:
        query, _, value, key_mask, query_mask, *_ = inputs
        return attention_flops(query, value, key_mask, query_mask)

    def attention_backward(*inputs: Any, **_options: Any) -> int:
        return 2 * attention(*inputs[1:])

    def projected_attention(*inputs: Any, **_options: Any) -> int:
        query, _, key, _, key_mask, query_mask, index, in_weight, _, out_weight, *_ = inputs
        sizes = (key_mask, query_mask, index, in_weight, out_weight)
        return projected_attention_flops(query, query if key is None else key, *sizes)

    def projected_attention_backward(*inputs: Any, **_options: Any) -> int:
        _, query, _, key, _, key_mask, query_mask, index, in_weight, out_weight, *_ = inputs
        sizes = (key_mask, query_mask, index, in_weight, out_weight)
        return 2 * projected_attention_flops(query, query if key is None else key, *sizes)

    def perceptron(*inputs: Any, **_options: Any) -> int:
        x, weights, *_ = inputs
        return 2 * len(x) * sum(weight.numel() for weight in weights)

    def perceptron_backward(*inputs: Any, **_options: Any) -> int:
        _, x, weights, _, of_x, *_ = inputs
        forward = perceptron(x, weights)
        return 2 * forward if of_x else 2 * forward - 2 * len(x) * weights[0].numel()

    functions = (feed_forward, attention, projected_attention, perceptron)
    for function in (
        *functions,
        feed_forward_backward,
        attention_backward,
        projected_attention_backward,
        perceptron_backward,
    ):
        # `bench.compare` measures revisions that have fewer of them.
        operator = getattr(torch.ops.mesm_plugin, function.__name__, None)
        if operator is not None:
            register_flop_formula(operator, get_raw=True)(function)
