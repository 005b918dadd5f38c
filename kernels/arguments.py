# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Checks of the types of arguments, whose errors name the argument."""

import operator
from collections.abc import Mapping

import torch
from torch import Tensor


def check_tensors(arguments: Mapping[str, object]) -> None:
    """Raises a TypeError where one of the named arguments is no tensor."""
    for name, x in arguments.items():
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")


def check_number(name: str, value: object) -> None:
    """Raises a TypeError where the argument is neither an int nor a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}")


def check_probability(name: str, value: float) -> None:
    """Raises a TypeError where the argument is no number, and a ValueError where it is not in [0, 1]."""
    check_number(name, value)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}")


def integer(name: str, value: object) -> int:
    """The argument as an int; raises a TypeError where it is no integer, of Python, NumPy or PyTorch."""
    if isinstance(value, int) and not isinstance(value, bool):
        # `operator.index` would make `torch.compile` compile anew for each value.
        return value
    try:
        if not isinstance(value, bool) and not (isinstance(value, Tensor) and value.dtype == torch.bool):
            return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        pass
    raise TypeError(f"{name} must be an integer, got {value!r} of type {type(value).__name__}")


def autocasting(device: torch.device) -> bool:
    """Whether autocast is on for the device; it does not know every type of device, such as "meta"."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
