# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Floating-point operations that the model's matrix products need, those of the C++ operators included."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, register_flop_formula


def count_flops(run: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products of `run`, without those of padding that is left out.

    What is computed twice to save memory counts once.
    """
    # Older revisions, which `bench.compare` measures, have no C++ operators.
    with contextlib.suppress(ImportError):
        from mesm_plugin.kernels.cpu import operators_are_loaded

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


def feed_forward_flops(x: Tensor, mask: Tensor | None, weight1: Tensor, weight2: Tensor, **_other: Any) -> int:
    """Of the forward pass over the rows x (R, D) that `mask` (R,) does not name as padding."""
    rows = len(x) if mask is None else int(mask.sum())
    return 2 * rows * (weight1.numel() + weight2.numel())


def attention_flops(query: Tensor, value: Tensor, key_mask: Tensor, query_mask: Tensor | None, **_other: Any) -> int:
    """Of the forward pass, up to the last valid query and key of each item."""
    _, length, heads, dims = query.shape
    keys = _lengths(key_mask)
    queries = torch.full_like(keys, length) if query_mask is None else _lengths(query_mask)
    return 2 * heads * (dims + value.shape[-1]) * int((queries * keys).sum())


def projected_attention_flops(
    query: Tensor,
    key: Tensor | None,
    key_mask: Tensor,
    query_mask: Tensor | None,
    index: Tensor | None,
    in_weight: Tensor,
    out_weight: Tensor,
    heads: int,
    bfloat16: bool = False,
    **_other: Any,
) -> int:
    """Of the forward pass over the valid queries, and over the keys that one of the query items needs.

    The lesser of projecting the queries and outputs and of absorbing that into the keys and values, where the operator
    chooses between them.
    """
    items, length, channels = query.shape
    queries = torch.full((items,), length) if query_mask is None else query_mask.sum(dim=1)
    index = torch.arange(items) if index is None else index
    of_keys = (query if key is None else key).shape[:2]
    needed = torch.zeros(of_keys, dtype=torch.int64).index_add_(0, index, key_mask.long()) > 0
    dims = in_weight.shape[0] // 3
    pairs, rows = int((queries * needed.sum(dim=1)[index]).sum()), int(needed.sum())
    of_a_row = in_weight[:dims].numel() + out_weight.numel()
    projected = int(queries.sum()) * of_a_row + 2 * dims * pairs
    absorbed = rows * of_a_row + heads * (channels + len(out_weight)) * pairs
    chooses = key is not None and not bfloat16
    return 2 * (rows * in_weight[dims:].numel() + (min(projected, absorbed) if chooses else projected))


def perceptron_flops(x: Tensor, weights: Sequence[Tensor], **_other: Any) -> int:
    """Of the forward pass over the rows x (R, D)."""
    return 2 * len(x) * sum(weight.numel() for weight in weights)


def perceptron_backward_flops(x: Tensor, weights: Sequence[Tensor], of_x: bool, **_other: Any) -> int:
    """Of the backward pass, with or without a gradient `of_x`."""
    forward = perceptron_flops(x, weights)
    return 2 * forward if of_x else 2 * forward - 2 * len(x) * weights[0].numel()


def _lengths(mask: Tensor) -> Tensor:
    """One past the last True of each row."""
    return (mask * torch.arange(1, mask.shape[1] + 1)).amax(dim=1)


def _twice(formula: Callable[..., int]) -> Callable[..., int]:
    return lambda **inputs: 2 * formula(**inputs)


_FORMULAS: dict[str, Callable[..., int]] = {
    "feed_forward": feed_forward_flops,
    "feed_forward_backward": _twice(feed_forward_flops),
    "attention": attention_flops,
    "attention_backward": _twice(attention_flops),
    "projected_attention": projected_attention_flops,
    "projected_attention_backward": _twice(projected_attention_flops),
    "perceptron": perceptron_flops,
    "perceptron_backward": perceptron_backward_flops,
}


@functools.cache
def _register() -> None:
    for name, formula in _FORMULAS.items():
        # `bench.compare` measures revisions that have fewer of them.
        operator = getattr(torch.ops.mesm_plugin, name, None)
        if operator is not None:
            register_flop_formula(operator, get_raw=True)(_by_name(operator, formula))


def _by_name(operator: Any, formula: Callable[..., int]) -> Callable[..., int]:
    """A formula of named inputs for an operator's inputs in their order, which is not that of every revision."""
    names = [argument.name for argument in operator.default._schema.arguments]
    return lambda *inputs, **_options: formula(**dict(zip(names, inputs, strict=False)))
