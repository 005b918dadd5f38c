# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Which modules the C++ operators may stand for."""

from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.module import _has_any_global_hook

_STANDARD: set[type[nn.Module]] = {nn.Linear, nn.LayerNorm, nn.ReLU, nn.PReLU, nn.Dropout}
_Module = TypeVar("_Module", bound=type[nn.Module])


def standard(kind: _Module) -> _Module:
    """Marks a class of modules whose `forward` is one that the C++ operators compute, as those of PyTorch's layers."""
    _STANDARD.add(kind)
    return kind


def replaceable(*modules: nn.Module) -> bool:
    """Whether an operator may do the work of these modules without calling them.

    That is so for `standard` modules without hooks; subclasses of them, such as low-rank adapters, parametrised or
    quantised layers, are called, and so is everything where PyTorch compiles the code.
    """
    if torch.compiler.is_compiling() or _has_any_global_hook():
        return False
    for module in modules:
        state = module.__dict__
        if (
            type(module) not in _STANDARD
            or "forward" in state
            or state["_forward_hooks"]
            or state["_forward_pre_hooks"]
            or state["_backward_hooks"]
            or state["_backward_pre_hooks"]
        ):
            return False
    return True
