# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Writing HDF5 to a disk that can be full."""

import io
from typing import Any


class DiskFile:
    """A file for `h5py.File` to write to, which keeps the first error to itself until `check` is called.

    HDF5 does not survive a failed write: closing the file then fails, and in the end the process crashes. Here a write
    seems to succeed, so that HDF5 can be closed in order.

    Args:
        raw: The file, open for reading and writing, unbuffered.
    """

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw
        self._error: OSError | None = None

    def check(self) -> None:
        """Raises the first error of a write, if there was one."""
        if self._error is not None:
            raise self._error

    def write(self, content: Any) -> int:
        """Writes everything, or notes why that failed."""
        rest = memoryview(content).cast("B")
        size = len(rest)
        try:
            while rest:
                rest = rest[self._raw.write(rest) :]
        except OSError as error:
            self._error = self._error or error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Sets the size, or notes why that failed."""
        try:
            return self._raw.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)
