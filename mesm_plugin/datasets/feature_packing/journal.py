# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Arrays that are kept one by one, so that an interruption at any moment loses none of them."""

import fcntl
import json
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Record:
    """Where an array lies in the file of arrays.

    Attributes:
        offset: First byte.
        shape: Of the array.
        dtype: Of its numbers, as NumPy writes it.
        checksum: CRC-32 of its bytes.
        info: What else was noted of it.
    """

    offset: int
    shape: tuple[int, ...]
    dtype: str
    checksum: int
    info: dict[str, Any]

    @property
    def end(self) -> int:
        """First byte behind the array."""
        return self.offset + math.prod(self.shape) * np.dtype(self.dtype).itemsize


class ArrayJournal:
    """A folder with the arrays that are finished, to which one process at a time adds.

    An HDF5 file that is being written when its process ends is lost as a whole. So arrays go to a plain file here, and
    behind each a line to an index. Opening cuts off a half-written array or line at the end, which is all that an
    interruption can leave.

    Args:
        folder: Made if it does not exist.
        options: What the arrays depend on besides what they are made from. Arrays of other options are thrown away.

    Attributes:
        records: Of the finished arrays, by id.
        discarded: How many arrays of other options were thrown away.

    Raises:
        OSError: The folder cannot be written.
        ValueError: Another process is writing to it.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self.folder = folder
        self.records: dict[str, Record] = {}
        self.discarded = 0
        self._end = self._index_end = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._index = os.open(folder / "index.jsonl", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._index, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._index)
            raise ValueError(f"another run is writing to {folder}; wait for it, or end it") from error
        self._arrays = os.open(folder / "arrays.bin", os.O_RDWR | os.O_CREAT, 0o666)
        self._resume(dict(options))

    def __enter__(self) -> "ArrayJournal":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._arrays)
        os.close(self._index)

    def add(self, id_: str, array: np.ndarray, info: dict[str, Any]) -> None:
        """Keeps an array; one of the same id is replaced.

        Raises:
            OSError: It cannot be written, because the disk is full for instance. What was finished before is kept.
        """
        data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
        content = data.tobytes()
        record = Record(self._end, data.shape, data.dtype.str, zlib.crc32(content), info)
        line = [id_, record.offset, record.shape, record.dtype, record.checksum, info]
        self._write(self._arrays, record.offset, content, "arrays.bin")
        self._end = record.end
        self._append_line(line)
        self.records[id_] = record

    def read(self, id_: str) -> np.ndarray:
        """A finished array.

        Raises:
            ValueError: Its bytes have changed since they were written.
        """
        record = self.records[id_]
        content = os.pread(self._arrays, record.end - record.offset, record.offset)
        if zlib.crc32(content) != record.checksum:
            raise ValueError(f"{self.folder / 'arrays.bin'} is damaged at {id_}; remove {self.folder} and begin anew")
        return np.frombuffer(content, dtype=record.dtype).reshape(record.shape)

    def _resume(self, options: dict[str, Any]) -> None:
        size = os.fstat(self._arrays).st_size
        good = 0
        with open(self._index, "rb", closefd=False) as lines:
            header: Any = None
            for number, line in enumerate(lines):
                try:
                    value = json.loads(line)
                    if not line.endswith(b"\n"):
                        break
                    if number == 0:
                        header = value
                    else:
                        id_, offset, shape, dtype, checksum, info = value
                        record = Record(offset, tuple(shape), dtype, checksum, info)
                        if record.end > size:
                            break
                        self.records[id_] = record
                except (ValueError, TypeError):
                    break
                good += len(line)
        if header != options:
            self.discarded, good = len(self.records), 0
            self.records = {}
        self._end = max((record.end for record in self.records.values()), default=0)
        os.ftruncate(self._arrays, self._end)
        os.ftruncate(self._index, good)
        self._index_end = good
        if good == 0:
            self._append_line(options)

    def _append_line(self, value: Any) -> None:
        line = json.dumps(value).encode() + b"\n"
        self._write(self._index, self._index_end, line, "index.jsonl")
        self._index_end += len(line)

    def _write(self, file: int, offset: int, content: bytes, name: str) -> None:
        try:
            rest = memoryview(content)
            while rest:
                count = os.pwrite(file, rest, offset)
                rest, offset = rest[count:], offset + count
        except OSError as error:
            reason = f"{error.strerror}; what is finished is kept, run the same command again"
            raise OSError(error.errno, reason, str(self.folder / name)) from error
