# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Which tensors the C++ operators take."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from mesm_plugin.kernels.arguments import autocasting
from mesm_plugin.kernels.cpu.build import operators_are_loaded

_DTYPES = (torch.float32, torch.float64)
_MIXED_DTYPES = (torch.float32, torch.bfloat16)
_PLAIN = ContextVar("plain", default=False)


@contextmanager
def plain_operators() -> Iterator[None]:
    """Within it PyTorch's operators do the work, where counters of PyTorch's are to see it."""
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def within_plain_operators() -> bool:
    """Whether `plain_operators` is in force."""
    return _PLAIN.get()


def suitable(*tensors: Tensor) -> bool:
    """Whether the C++ operators take these tensors: of one dtype, float32 or float64, and on the CPU.

    Under autocast to bfloat16 tensors of float32 and bfloat16 are taken together (`in_float32`), where PyTorch's
    products in bfloat16 are oneDNN's. None are where PyTorch transforms or compiles the code, which then sees into its
    own operators only.
    """
    first = tensors[0]
    if not first.is_cpu or torch.compiler.is_compiling() or within_plain_operators():
        return False
    if autocasting(first.device):
        if not products_in_bfloat16() or not has_bfloat16():
            return False
        dtypes: tuple[torch.dtype, ...] = _MIXED_DTYPES
    else:
        dtypes = (first.dtype,) if first.dtype in _DTYPES else ()
    return (
        all(type(x) in (Tensor, nn.Parameter) and x.is_cpu and x.dtype in dtypes for x in tensors)
        and not transforming()
        and operators_are_loaded()
    )


def has_bfloat16() -> bool:
    """Whether oneDNN multiplies bfloat16 on this CPU; not every build of PyTorch has oneDNN."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def products_in_bfloat16() -> bool:
    """Whether autocast asks for matrix products of bfloat16 on CPUs."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def in_float32(*tensors: Tensor | None) -> list[Any]:
    """`suitable` tensors as the operators take them: those of bfloat16 as float32."""
    return [x.float() if x is not None and x.dtype == torch.bfloat16 else x for x in tensors]


def transforming() -> bool:
    """Whether `torch.func` or forward-mode differentiation is at work, which PyTorch's own operators follow only."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
