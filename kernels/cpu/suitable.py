# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Which tensors the C++ operators take."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from mesm_plugin.kernels.arguments import autocasting
from mesm_plugin.kernels.cpu.build import operators_are_loaded

_DTYPES = (torch.float32, torch.float64)
_PLAIN = ContextVar("plain", default=False)


@contextmanager
def plain_operators() -> Iterator[None]:
    """Within it PyTorch's operators do the work, where counters of PyTorch's are to see it."""
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def suitable(*tensors: Tensor) -> bool:
    """Whether the C++ operators take these tensors: of one dtype, float32 or float64, and on the CPU.

    They are not taken under autocast, whose products are of another dtype, nor where PyTorch transforms or compiles the
    code, which then sees into its own operators only.
    """
    first = tensors[0]
    return (
        first.is_cpu
        and first.dtype in _DTYPES
        and not torch.compiler.is_compiling()
        and not _PLAIN.get()
        and all(type(x) in (Tensor, nn.Parameter) and x.is_cpu and x.dtype == first.dtype for x in tensors)
        and not autocasting(first.device)
        and not torch._C._are_functorch_transforms_active()
        and operators_are_loaded()
    )
