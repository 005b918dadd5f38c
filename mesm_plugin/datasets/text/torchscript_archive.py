# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Weights of a TorchScript archive, read without running the program that it holds."""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mesm_plugin.utils.zip_archive import is_zip

_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class ArchivedTensor(NamedTuple):
    """A tensor that has not been read yet.

    Attributes:
        storage: Name of its numbers in the archive.
        dtype: Of the numbers.
        offset: Of the first one.
        shape: Of the tensor.
        stride: Numbers from one element to the next, for each axis.
    """

    storage: str
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class TorchScriptArchive:
    """The parameters and buffers of a scripted or traced model, by name.

    `torch.jit.load` would compile and may run the code of the archive. Here the modules are bags of attributes, and
    what the archive pickles may only be modules, tensors, numbers, texts and containers of these.

    Args:
        path: File of `torch.jit.save`.

    Attributes:
        tensors: What there is, read by `read`.

    Raises:
        ValueError: The archive is damaged, or pickles something else; the message names file and class.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self._folder = _main_folder(archive)
                content = _stored(archive, f"{self._folder}/data.pkl")
            model = _InertUnpickler(content, path).load()
        except _RefusedError:
            raise
        # A pickle is a program: damaged, it can fail in any way.
        except Exception as error:
            raise ValueError(f"{path} is a damaged TorchScript archive ({error}); copy or download it again") from error
        self.tensors = _tensors_of(model)

    @staticmethod
    def is_one(path: Path) -> bool:
        """Whether a file is a TorchScript archive, and not a state dict, which is a zip archive, too."""
        if not is_zip(path):
            return False
        try:
            with zipfile.ZipFile(path) as archive:
                return any(PurePosixPath(name).name == "constants.pkl" for name in archive.namelist())
        # Damaged directories of archives raise nearly everything.
        except Exception:
            return False

    def read(self, names: Sequence[str]) -> dict[str, Tensor]:
        """The tensors of the given names.

        Raises:
            ValueError: The archive does not hold as many numbers as a tensor needs.
        """
        with zipfile.ZipFile(self.path) as archive:
            return {name: self._read(archive, name, self.tensors[name]) for name in names}

    def _read(self, archive: zipfile.ZipFile, name: str, tensor: ArchivedTensor) -> Tensor:
        try:
            content = bytearray(_stored(archive, f"{self._folder}/data/{tensor.storage}"))
            numbers = torch.frombuffer(content, dtype=tensor.dtype)
            size = 1
            for length in tensor.shape:
                size *= length
            # Overlapping elements would make a giant of a small file.
            if size > len(numbers):
                raise ValueError(f"shape {tensor.shape}, but {len(numbers)} numbers")
            return numbers.as_strided(tensor.shape, tensor.stride, tensor.offset).clone()
        except (KeyError, ValueError, RuntimeError, TypeError, zipfile.BadZipFile, EOFError) as error:
            raise ValueError(f"{self.path}: {name} cannot be read, the archive is damaged ({error})") from error


class _RefusedError(ValueError):
    """The archive pickles what has no place there."""


class _InertUnpickler(pickle.Unpickler):
    """Builds modules without behaviour.

    All classes and functions that it hands out are made anew for each archive: whatever a hostile one sets on them is
    gone with it.
    """

    def __init__(self, content: bytes, path: Path) -> None:
        super().__init__(io.BytesIO(content))
        self._path = path
        self._module = type("Module", (), {})
        self._known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _Call(_rebuild_tensor),
            ("torch._utils", "_rebuild_parameter"): _Call(lambda tensor, *_: tensor),
            ("torch.jit._pickle", "restore_type_tag"): _Call(lambda value, _: value),
            **{
                ("torch.jit._pickle", f"build_{kind}list"): _Call(lambda values: list(values))
                for kind in ("int", "double", "bool", "tensor")
            },
            **{("torch", name): dtype for name, dtype in _DTYPES.items()},
        }

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return self._module
        if (module, name) not in self._known:
            raise _RefusedError(
                f"{self._path} holds an object of {module}.{name}, which has no place among the weights of a model; "
                "it is not read, as that could run code"
            )
        return self._known[module, name]

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key, *_ = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise ValueError("a tensor has no storage")
        return dtype, key


class _Call:
    """A function on which a pickle can set nothing."""

    __slots__ = ("__call",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__call = function

    def __call__(self, *args: Any) -> Any:
        return self.__call(*args)


def _rebuild_tensor(
    storage: tuple[torch.dtype, str], offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> ArchivedTensor:
    if not all(type(number) is int and number >= 0 for number in (offset, *shape, *stride)):
        raise ValueError("a tensor has no shape")
    dtype, key = storage
    return ArchivedTensor(key, dtype, offset, tuple(shape), tuple(stride))


def _main_folder(archive: zipfile.ZipFile) -> str:
    names = [PurePosixPath(name) for name in archive.namelist()]
    folders = [str(name.parent) for name in names if name.name == "data.pkl" and len(name.parts) == 2]
    if len(folders) != 1:
        raise ValueError(f"it has {len(folders)} files data.pkl, expected 1")
    return folders[0]


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member of the archive; compressed ones, which torch never writes there, could grow beyond any memory."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    return archive.read(name)


def _tensors_of(model: Any) -> dict[str, ArchivedTensor]:
    """The tensors of a module and those in it, by their names in a state dict."""
    found: dict[str, ArchivedTensor] = {}
    waiting, seen = [("", model)], {id(model)}
    while waiting:
        prefix, module = waiting.pop()
        for name, value in getattr(module, "__dict__", {}).items():
            if isinstance(value, ArchivedTensor):
                found[f"{prefix}{name}"] = value
            elif hasattr(value, "__dict__") and id(value) not in seen:
                seen.add(id(value))
                waiting.append((f"{prefix}{name}.", value))
    return found
