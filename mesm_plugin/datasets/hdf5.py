# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Reading HDF5 files from several processes."""

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mesm_plugin.datasets.files import require_file
from mesm_plugin.datasets.mapped_arrays import MappedArrays

HDF5_ENDINGS = (".hdf5", ".h5", ".hdf")


class HDF5File:
    """A read-only HDF5 file with one data set per key, opened on first use and anew in every process.

    An h5py handle neither survives pickling nor may serve both sides of a fork, and data loader workers do both. So a
    pickled copy starts closed, and all files are closed before a fork: parent and child each open them again when they
    read. Closing the child's own would not do, since HDF5 reuses a descriptor as long as any handle of the file is open
    in the process, be it that of another data set.

    A file of `pack_features` is read from a memory map. Where its arrays lie is in a table at its end; if that is lost,
    `require` and `checked_shape` look for them.

    Args:
        file: Path of the file.
        content: What the file holds, for messages.

    Raises:
        FileNotFoundError: The file does not exist (raised on first use, as all others).
        OSError: The file is truncated or is no HDF5 file.
    """

    def __init__(self, file: str | Path, content: str) -> None:
        self.path = Path(file)
        self.content = content
        self._handle: Any = None
        self._mapped: MappedArrays | None = None
        self._opened = self._looked = False

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None}

    def close(self) -> None:
        """Closes the file until it is used again."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def require(self) -> None:
        """Raises if there is no such file, or it cannot be opened; looks where the arrays of a packed file lie."""
        with self._reading("its list of data sets") as file:
            if self._mapped is None and not self._looked:
                self._mapped = MappedArrays.of(self.path, file)
                self._looked = True
        # HDF5 keeps what it has read of the list.
        self.close()

    def _open(self) -> Any:
        if self._handle is None:
            import h5py

            _close_before_forks()
            require_file(self.path, self.content)
            try:
                self._handle = h5py.File(self.path, "r")
            except PermissionError as error:
                raise PermissionError(error.errno, "may not be read", str(self.path)) from error
            except OSError as error:
                raise OSError(
                    f"{self.path} is truncated or is not an HDF5 file ({error}); copy or download it again"
                ) from error
            _open_files.add(self)
            if not self._opened:
                self._mapped = MappedArrays.listed(self.path, self._handle)
                self._opened = True
        return self._handle

    def checked_shape(self, key: str) -> tuple[int, int] | None:
        """Shape of a matrix whose numbers were checked when the file was packed; None if it has to be read for that."""
        if self._mapped is None and not self._looked:
            # A damaged list has to be met by reading, which tells what can be read in spite of it.
            with suppress(OSError):
                self.require()
            self._looked = True
        return None if self._mapped is None else self._mapped.shape(key)

    def __len__(self) -> int:
        if self._mapped is not None:
            return len(self._mapped)
        with self._reading("its list of data sets") as file:
            return len(file)

    def __iter__(self) -> Iterator[str]:
        with self._reading("its list of data sets") as file:
            return iter(list(file))

    def __contains__(self, key: str) -> bool:
        if self._mapped is not None:
            return key in self._mapped
        with self._reading(key) as file:
            return key in file

    def group(self, key: str) -> list[str] | None:
        """Names in the group of `key`; None if it is a data set."""
        import h5py

        with self._reading(key) as file:
            return list(file[key]) if file.get(key, getclass=True) is h5py.Group else None

    def where(self, key: str) -> str:
        """The place of a video's data set, for messages."""
        return f"{self.path}, video {key}"

    def stamp(self, key: str) -> tuple[int, int]:
        """Size in bytes and time of change in ns of the file, which holds every `key`."""
        state = self.path.stat()
        return state.st_size, state.st_mtime_ns

    def read(self, key: str) -> np.ndarray:
        """The data set of `key`, which has to be in the file."""
        if self._mapped is not None and key in self._mapped:
            return self._mapped.read(key)
        with self._reading(key) as file:
            data = self._data_set(file, key)
            # Reading these from a damaged file can take all memory.
            if data.dtype.hasobject:
                raise _NoDataSetError(f"{self.path}: {key}: expected real numbers, got dtype {data.dtype}")
            if data.size and not data.id.get_storage_size():
                raise _NoDataSetError(f"{self.path}: {key} is declared, shape {data.shape}, but was never written")
            # Scalars come as Python objects, an empty data space as one of h5py.
            return np.asarray(data[()])

    def attribute(self, key: str, name: str) -> np.ndarray | None:
        """Attribute `name` of the data set of `key`; None if it has none of that name."""
        if self._mapped is not None and name == "token_ids":
            return self._mapped.token_ids(key)
        with self._reading(key) as file:
            value = self._data_set(file, key).attrs.get(name)
        return None if value is None else np.asarray(value)

    def _data_set(self, file: Any, key: str) -> Any:
        import h5py

        data = file[key]
        if not isinstance(data, h5py.Dataset):
            raise _NoDataSetError(f"{self.path}: {key} is a group, expected a data set")
        return data

    @contextmanager
    def _reading(self, what: str) -> Iterator[Any]:
        """The open file; whatever h5py raises of a damaged one becomes an OSError that names it."""
        with _lock:
            file = self._open()
            try:
                yield file
            except _NoDataSetError:
                raise
            except (OSError, RuntimeError, LookupError, TypeError, ValueError, MemoryError) as error:
                raise OSError(f"{self.path}: {what} cannot be read, the file is damaged ({error})") from error


class _NoDataSetError(ValueError):
    """A key is that of something else than an array; the file is not damaged."""


# Held while a file is read, so that a fork waits for the reads of other threads.
_lock = threading.RLock()
_open_files: "weakref.WeakSet[HDF5File]" = weakref.WeakSet()


def _before_fork() -> None:
    _lock.acquire()
    for file in list(_open_files):
        file.close()
    _open_files.clear()


@cache
def _close_before_forks() -> None:
    """Registers `_before_fork`, once and after h5py was imported.

    What was registered last runs first. h5py registers that a fork takes its lock, which a reading thread waits for
    while it holds ours: taken the other way round, both would wait for ever.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before_fork, after_in_parent=_lock.release, after_in_child=_lock.release)
