# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Watches what kernels do in Triton's interpreter: which addresses they touch, how often they are launched."""

import inspect
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor


class AccessError(AssertionError):
    """A kernel touched memory that it must not."""


@dataclass
class Checks:
    """What the kernels did since `checked` was entered.

    Attributes:
        launches: Grids that were launched, by kernel.
        loaded: Bytes of unmasked lanes, by kernel and by argument; a lane counts each time that it is loaded.
        stored: Likewise; atomics count as both.
    """

    launches: Counter[str] = field(default_factory=Counter)
    loaded: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    stored: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))


class _Memory:
    """The memory of one launch: the storages of its tensors one after the other, as a byte map.

    Args:
        kernel: Name for messages.
        tensors: The tensors that the kernel was given, by argument.
    """

    def __init__(self, kernel: str, tensors: dict[str, Tensor]) -> None:
        self.kernel = kernel
        self.names = list(tensors)
        storages = {s.data_ptr(): s for s in (tensor.untyped_storage() for tensor in tensors.values()) if s.nbytes()}
        addresses = sorted(storages)
        # A storage of no bytes comes first, so that every address lies at or after the start of one.
        self.starts = np.array([0, *addresses], np.uint64)
        self.sizes = np.array([0, *(storages[address].nbytes() for address in addresses)], np.int64)
        self.offsets = np.concatenate(([0], self.sizes.cumsum()))
        # A byte after the last one stands for all addresses outside the storages.
        self.nowhere = int(self.offsets[-1])
        self.owner = np.full(self.nowhere + 1, -1, np.int16)
        self.writer = np.full(self.nowhere + 1, -1, np.int64)
        owner = torch.from_numpy(self.owner)
        # Where arguments overlap, the first owns the bytes.
        for number, tensor in reversed(list(enumerate(tensors.values()))):
            if tensor.numel():
                item = tensor.element_size()
                first = self.position(np.array([tensor.data_ptr()], np.uint64), item)[0]
                strides = (*(stride * item for stride in tensor.stride()), 1)
                torch.as_strided(owner, (*tensor.shape, item), strides, int(first)).fill_(number)
        self.spans = [(t.data_ptr(), t.data_ptr() + _extent(t)) for t in tensors.values()]

    def position(self, addresses: np.ndarray, item: int) -> np.ndarray:
        """Index into the byte map of each address of `item` bytes."""
        storage = np.searchsorted(self.starts, addresses, side="right") - 1
        within = (addresses - self.starts[storage]).astype(np.int64)
        return np.where(within + item <= self.sizes[storage], self.offsets[storage] + within, self.nowhere)

    def access(self, kind: str, program: tuple[int, int, int], addresses: np.ndarray, item: int) -> Counter[str]:
        """Checks unmasked lanes of `item` bytes; returns their bytes by argument."""
        position = self.position(addresses, item)
        owner = self.owner[position]
        outside = (owner < 0) | (owner != self.owner[np.minimum(position + item - 1, self.nowhere)])
        if outside.any():
            raise AccessError(
                f"{self.kernel}: program {program} {kind}s outside the tensors that it was given, in {outside.sum()} "
                f"of {len(addresses)} lanes: the first at {self.describe(int(addresses[outside][0]))}"
            )
        counts = np.bincount(owner, minlength=len(self.names)) * item
        return Counter({name: int(count) for name, count in zip(self.names, counts, strict=True) if count})

    def claim(self, program: tuple[int, int, int], number: int, addresses: np.ndarray, item: int) -> None:
        """Notes which program stores to each address, and refuses a second one."""
        position = self.position(addresses, item)
        writer = self.writer[position]
        twice = (writer >= 0) & (writer != number)
        if twice.any():
            raise AccessError(
                f"{self.kernel}: program {program} stores where program number {writer[twice][0]} of the grid stored, "
                f"in {twice.sum()} of {len(addresses)} lanes: the first at {self.describe(int(addresses[twice][0]))}"
            )
        self.writer[position] = number

    def describe(self, address: int) -> str:
        """An address in words, from the argument nearest to it."""
        distances = [max(begin - address, address - end + 1, 0) for begin, end in self.spans]
        nearest = min(range(len(distances)), key=distances.__getitem__, default=None)
        if nearest is None:
            return f"{address:#x}; it was given no tensors"
        (begin, end), name = self.spans[nearest], self.names[nearest]
        if address < begin:
            where = f"{begin - address} bytes before"
        elif address >= end:
            where = f"{address - end} bytes after the end of"
        else:
            where = f"{address - begin} bytes into"
        return f"{address:#x}, {where} {name!r}"


def _extent(tensor: Tensor) -> int:
    """Bytes from the first element of a tensor to the end of its last one."""
    if not tensor.numel():
        return 0
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.element_size()


def _hooks() -> Any:
    """The module of Triton's interpreter, after a check that its private parts are those that are patched here.

    Raises:
        RuntimeError: They are not, or Triton does not interpret.
    """
    import triton
    from triton.runtime import interpreter

    from mesm_plugin.kernels.backend import interpreting

    if not interpreting():
        raise RuntimeError("checked() needs Triton's interpreter: set TRITON_INTERPRET=1 before Triton is imported")
    expected = {
        ("InterpreterBuilder", "create_masked_load"): ["self", "ptrs", "mask"],
        ("InterpreterBuilder", "create_masked_store"): ["self", "ptrs", "value", "mask"],
        ("InterpreterBuilder", "create_atomic_rmw"): ["self", "rmwOp", "ptr", "val", "mask"],
        ("InterpreterBuilder", "create_atomic_cas"): ["self", "ptr", "cmp", "val"],
        ("GridExecutor", "_init_args_hst"): ["self", "args_dev", "kwargs"],
        ("GridExecutor", "__call__"): ["self", "args_dev", "kwargs"],
    }
    for (owner, name), parameters in expected.items():
        method = getattr(getattr(interpreter, owner, None), name, None)
        if method is None or list(inspect.signature(method).parameters)[: len(parameters)] != parameters:
            raise RuntimeError(
                f"Triton {triton.__version__} has no {owner}.{name}({', '.join(parameters)}): adapt "
                "tests/kernels/interpreter_checks.py to its interpreter"
            )
    return interpreter


@contextmanager
def checked() -> Iterator[Checks]:
    """Checks every access of the kernels that Triton interprets meanwhile, in whatever thread, and counts.

    Raises:
        AccessError: A kernel loads or stores a lane that belongs to no element of the tensors it was given, or two of
            its programs store to one address.
        RuntimeError: Triton does not interpret, or its interpreter is not the one that this knows.
    """
    interpreter = _hooks()
    builder, executor = interpreter.InterpreterBuilder, interpreter.GridExecutor
    checks = Checks()
    memory: _Memory | None = None

    def access(self: Any, kinds: tuple[str, ...], pointers: Any, mask: np.ndarray | None) -> None:
        assert memory is not None
        item = np.dtype(interpreter._get_np_dtype(pointers.get_element_ty())).itemsize
        addresses = np.asarray(pointers.data)
        mask = np.broadcast_to(True if mask is None else mask, addresses.shape)
        addresses = addresses[mask].astype(np.uint64)
        if not addresses.size:
            return
        x, y, z = self.grid_idx
        for kind in kinds:
            counted = (checks.stored if kind == "store" else checks.loaded)[memory.kernel]
            counted.update(memory.access(kind, (x, y, z), addresses, item))
        if kinds == ("store",):
            number = (x * self.grid_dim[1] + y) * self.grid_dim[2] + z
            memory.claim((x, y, z), number, addresses, item)

    def load(self: Any, ptrs: Any, mask: Any, *rest: Any, **named: Any) -> Any:
        access(self, ("load",), ptrs, mask.data)
        return originals["create_masked_load"](self, ptrs, mask, *rest, **named)

    def store(self: Any, ptrs: Any, value: Any, mask: Any, *rest: Any, **named: Any) -> Any:
        access(self, ("store",), ptrs, mask.data)
        return originals["create_masked_store"](self, ptrs, value, mask, *rest, **named)

    def atomic(self: Any, op: Any, ptr: Any, val: Any, mask: Any, *rest: Any, **named: Any) -> Any:
        access(self, ("load", "store"), ptr, mask.data)
        return originals["create_atomic_rmw"](self, op, ptr, val, mask, *rest, **named)

    def compare_and_swap(self: Any, ptr: Any, *rest: Any, **named: Any) -> Any:
        access(self, ("load", "store"), ptr, None)
        return originals["create_atomic_cas"](self, ptr, *rest, **named)

    def arguments_on_host(self: Any, args_dev: Any, kwargs: Any) -> Any:
        nonlocal memory
        args, named = originals["_init_args_hst"](self, args_dev, kwargs)
        given = {**dict(zip(self.arg_names, args, strict=False)), **named}
        tensors = {name: value for name, value in given.items() if isinstance(value, Tensor)}
        memory = _Memory(self.fn.__name__, tensors)
        checks.launches[memory.kernel] += 1
        return args, named

    def launch(self: Any, *args: Any, **named: Any) -> Any:
        try:
            return originals["__call__"](self, *args, **named)
        except interpreter.InterpreterError as error:
            # The interpreter wraps errors once for each function of the kernel that they cross.
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, AccessError):
                cause = cause.__cause__
            if cause is None:
                raise
            raise cause from None

    replacements = {
        builder: {
            "create_masked_load": load,
            "create_masked_store": store,
            "create_atomic_rmw": atomic,
            "create_atomic_cas": compare_and_swap,
        },
        executor: {"_init_args_hst": arguments_on_host, "__call__": launch},
    }
    originals = {name: getattr(owner, name) for owner, methods in replacements.items() for name in methods}
    with patch.multiple(builder, **replacements[builder]), patch.multiple(executor, **replacements[executor]):
        yield checks


def poisoned(tensor: Tensor, dim: int = 0, margin: int = 16) -> Tensor:
    """A copy of a tensor whose neighbours along `dim` are NaN, so that reads of them show.

    In place of NaN, bool takes True and integers their largest number.

    Args:
        tensor: (..., L, ...).
        dim: The dimension of L.
        margin: Poisoned elements before the first and after the last one.

    Returns:
        A view, of the same shape and values, of a buffer of (..., margin + L + margin, ...).
    """
    shape = list(tensor.shape)
    shape[dim] += 2 * margin
    if tensor.is_floating_point():
        poison = torch.nan
    else:
        poison = True if tensor.dtype == torch.bool else torch.iinfo(tensor.dtype).max
    buffer = torch.full(shape, poison, dtype=tensor.dtype, device=tensor.device)
    view = buffer.narrow(dim, margin, tensor.shape[dim])
    view.copy_(tensor)
    return view
