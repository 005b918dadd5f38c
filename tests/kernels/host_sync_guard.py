# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Finds code that waits for a GPU, on machines without one: the meta device stands in for it.

Whatever needs numbers, such as `.item()`, fails on the meta device by itself. This adds copies between the host and the
device and boolean indexing, which counts on the host. The insides of custom operators do not run on the meta device.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class HostSyncError(AssertionError):
    """The host waits for the device, or sends it data."""


class _Operators(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
        if func not in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            # Single numbers of the host travel as arguments of kernels.
            tensors = [x for x in tensors if x.dim() or x.is_meta]
        if {"meta"} < {x.device.type for x in tensors}:
            raise HostSyncError(f"{func} takes or makes tensors of the host and of the device")
        indexes = func.name().startswith(("aten::index", "aten::_index_put"))
        if indexes and any(isinstance(x, Tensor) and x.dtype == torch.bool for x in tree_leaves(args[1])):
            raise HostSyncError(f"{func} counts the elements of a mask")
        return out


class _Factories(TorchFunctionMode):
    """`torch.tensor` and the like reach the device's memory outside the dispatcher."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and out.is_meta and not isinstance(args[0], Tensor):
            raise HostSyncError(f"torch.{func.__name__} copies data of the host to the device")
        return out


@contextmanager
def host_sync_guard() -> Iterator[None]:
    """Raises a HostSyncError where code that runs on the meta device would exchange data with the host."""
    with _Factories(), _Operators():
        yield
