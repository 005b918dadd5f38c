# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""From mixed precision to float32."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def at_least_float32(value: T) -> T:
    """The same with tensors of half precision as float32, inside of dataclasses, dicts, lists and tuples as well."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value  # type: ignore[return-value]
    if is_dataclass(value) and not isinstance(value, type):
        changed = {field.name: at_least_float32(getattr(value, field.name)) for field in fields(value)}
        return replace(value, **changed)
    if isinstance(value, Mapping):
        return {key: at_least_float32(item) for key, item in value.items()}  # type: ignore[return-value]
    if isinstance(value, (list, tuple)):
        return type(value)(at_least_float32(item) for item in value)
    return value
