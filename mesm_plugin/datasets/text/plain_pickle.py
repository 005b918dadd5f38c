# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Pickles of plain values, read without running anything that they name."""

import math
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mesm_plugin.datasets.files import shown

_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


def is_pickle(path: Path) -> bool:
    """Whether a file is a pickle, by its first bytes or its name."""
    with open(path, "rb") as file:
        head = file.read(2)
    return head[:1] == b"\x80" or head in (b"(d", b"}q", b"}(") or path.suffix.lower() in (".pkl", ".pickle")


def read_plain_pickle(path: Path) -> Any:
    """The value of a pickle of dicts, lists, tuples, sets, text, numbers and NumPy arrays of numbers.

    The file's instructions are carried out here one by one, on such values only; no class or function that it names is
    imported or called. `collections.Counter` and `OrderedDict` become dicts, arrays views of what was read. Pickles of
    Python 2 and of all releases of NumPy are read; their byte strings are taken as Latin-1. No file needs
    more memory than a small multiple of its size.

    Raises:
        ValueError: The file is damaged or holds anything else; the message names the file, and what it asks for.
    """
    data = path.read_bytes()
    machine = _Machine(len(data))
    try:
        for opcode, argument, _ in pickletools.genops(data):
            machine.step(opcode.name, argument)
        return machine.result()
    except _Refused as error:
        raise ValueError(
            f"{path}: {error}; of pickles, only dicts, lists, text, numbers and NumPy arrays of numbers are read, "
            "since anything else could run code"
        ) from error
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, UnicodeError, MemoryError) as error:
        reason = f"{type(error).__name__}: {shown(str(error))}"
        raise ValueError(f"{path} is no complete pickle ({reason}); get the file again") from error


def described(value: Any) -> str:
    """A value of a pickle for a message; containers, which may be huge or hold themselves, by their type only."""
    return shown(value) if isinstance(value, str | bytes | int | float) else f"a {type(value).__name__}"


class PlainArray:
    """An array of numbers in a pickle; `values` is None until its state is read."""

    def __init__(self) -> None:
        self.values: np.ndarray | None = None


class _Refused(Exception):
    """The pickle asks for something that is not plain."""


class _Dtype:
    """The type of an array's numbers: a code such as "f4" and then, as state, the byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch("[<>=|]?([fiu][248]|[iub]1)", code):
            raise _Refused(f"it has an array of type {described(code)}")
        self.code = code

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "=", "|"):
            raise ValueError("the type of an array has another state than NumPy writes")
        if state[2] is not None or state[3] is not None or state[4] is not None:
            raise _Refused("it has an array of records")
        self.code = state[1] + self.code.lstrip("<>=|")


class _Machine:
    """Carries out the instructions of a pickle.

    Args:
        size: Bytes of the file, the limit of what conversions of its texts to bytes may take.
    """

    def __init__(self, size: int) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._budget = size
        self._globals: dict[str, Callable[..., Any]] = {
            "collections.Counter": _same_dict,
            "collections.OrderedDict": _same_dict,
            "_codecs.encode": self._encode,
            # The empty byte string, in old protocols.
            "__builtin__.bytes": _no_bytes,
            "numpy.dtype": _Dtype,
            "numpy.ndarray": _no_call,
        }
        for core in ("numpy.core", "numpy._core"):
            self._globals[f"{core}.multiarray._reconstruct"] = _empty_array
            self._globals[f"{core}.multiarray.scalar"] = self._scalar
            self._globals[f"{core}.numeric._frombuffer"] = self._from_buffer

    def step(self, name: str, argument: Any) -> None:
        """Carries out one instruction."""
        stack = self._stack
        if name in _VALUES:
            if type(argument) is int and not -(2**63) <= argument < 2**64:
                raise _Refused("it has a number of over 64 bits")
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[argument])
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            stack.append(tuple(self._take(_TUPLES[name])))
        elif name == "MARK":
            stack.append(_MARK)
        elif name not in ("PROTO", "FRAME", "STOP"):
            step = getattr(self, f"_{name.lower()}", None)
            if step is None:
                detail = f" of {argument.replace(' ', '.')}" if isinstance(argument, str) else ""
                raise _Refused(f"it uses the instruction {name}{detail}")
            stack_change = step() if argument is None else step(argument)
            if stack_change is not None:
                stack.append(stack_change)

    def result(self) -> Any:
        """What the whole pickle stands for."""
        (value,) = self._stack
        return value

    def _take(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise IndexError("an instruction lacks its values")
        values = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return values

    def _take_to_mark(self) -> list[Any]:
        values = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _top(self, kind: type) -> Any:
        if type(self._stack[-1]) is not kind:
            raise TypeError(f"an instruction for a {kind.__name__} follows something else")
        return self._stack[-1]

    def _tuple(self) -> tuple[Any, ...]:
        return tuple(self._take_to_mark())

    def _empty_list(self) -> list[Any]:
        return []

    def _list(self) -> list[Any]:
        return self._take_to_mark()

    def _append(self) -> None:
        (value,) = self._take(1)
        self._top(list).append(value)

    def _appends(self) -> None:
        values = self._take_to_mark()
        self._top(list).extend(values)

    def _empty_dict(self) -> dict[Any, Any]:
        return {}

    def _dict(self) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        _fill(made, self._take_to_mark())
        return made

    def _setitem(self) -> None:
        values = self._take(2)
        _fill(self._top(dict), values)

    def _setitems(self) -> None:
        values = self._take_to_mark()
        _fill(self._top(dict), values)

    def _empty_set(self) -> set[Any]:
        return set()

    def _additems(self) -> None:
        values = self._take_to_mark()
        self._top(set).update(map(_key, values))

    def _frozenset(self) -> set[Any]:
        return set(map(_key, self._take_to_mark()))

    def _pop_mark(self) -> None:
        self._take_to_mark()

    def _pop(self) -> None:
        self._take(1)

    def _global(self, argument: str) -> Callable[..., Any]:
        return self._named(argument.replace(" ", "."))

    def _stack_global(self) -> Callable[..., Any]:
        module, name = self._take(2)
        return self._named(f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "?")

    def _named(self, name: str) -> Callable[..., Any]:
        if name not in self._globals:
            raise _Refused(f"it names {shown(name)[1:-1]}")
        return self._globals[name]

    def _reduce(self) -> Any:
        function, arguments = self._take(2)
        if not callable(function) or not isinstance(arguments, tuple):
            raise TypeError("a call has no function or no tuple of arguments")
        return function(*arguments)

    def _build(self) -> None:
        (state,) = self._take(1)
        target = self._stack[-1]
        if isinstance(target, _Dtype):
            target.set_state(state)
        elif isinstance(target, PlainArray):
            _, shape, dtype, by_column, data = state
            target.values = self._array(data, dtype, shape, "F" if by_column else "C")
        else:
            raise _Refused("it sets the state of an object")

    def _encode(self, text: str, encoding: str) -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise _Refused(f"it encodes text as {described(encoding)}")
        self._budget -= len(text)
        if self._budget < 0:
            raise _Refused("it writes the same text again and again")
        return text.encode("latin-1")

    def _array(self, data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
        if isinstance(data, str):
            data = self._encode(data, "latin1")
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
            raise _Refused("it has an array of something else than numbers")
        if not isinstance(shape, tuple) or not all(type(length) is int and length >= 0 for length in shape):
            raise ValueError("an array has another shape than a tuple of lengths")
        if len(shape) > 2:
            raise _Refused(f"it has an array of {len(shape)} dimensions")
        values = np.frombuffer(data, dtype.code) if data else np.zeros(0, dtype.code)
        if math.prod(shape) != values.size:
            raise ValueError(f"an array of shape {shape} has {values.size} numbers")
        return values.reshape(shape, order="F" if order == "F" else "C")

    def _scalar(self, dtype: Any, data: Any) -> Any:
        return self._array(data, dtype, (), "C").item()

    def _from_buffer(self, data: Any, dtype: Any, shape: Any, order: str, *_: Any) -> PlainArray:
        array = PlainArray()
        array.values = self._array(data, dtype, shape, order)
        return array


def _key(value: Any) -> Any:
    # A tuple of tuples that shares its parts takes exponential time to hash.
    if not isinstance(value, str | bytes | int | float):
        raise _Refused(f"it has a key of type {type(value).__name__}")
    return value


def _fill(target: dict[Any, Any], values: list[Any]) -> None:
    for key, value in zip(values[::2], values[1::2], strict=True):
        target[_key(key)] = value


def _same_dict(mapping: Any = None) -> dict[Any, Any]:
    if mapping is not None and type(mapping) is not dict:
        raise _Refused("it makes a dict of something else")
    # A copy for each call would let a small file take much memory.
    return {} if mapping is None else mapping


def _no_bytes() -> bytes:
    return b""


def _empty_array(*_: Any) -> PlainArray:
    return PlainArray()


def _no_call(*_: Any) -> None:
    raise _Refused("it calls numpy.ndarray")
