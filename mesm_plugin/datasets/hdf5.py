# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Reading HDF5 files from several processes."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from mesm_plugin.datasets.files import require_file


class HDF5File:
    """A read-only HDF5 file with one data set per key, opened on first use and anew in every process.

    An h5py handle neither survives pickling nor may serve both sides of a fork, and data loader workers do both. So a
    pickled copy starts closed, and a child process opens the file for itself.

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
        self._owner = -1

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None, "_owner": -1}

    def _open(self) -> Any:
        if self._owner != os.getpid():
            import h5py

            if self._handle is not None:
                # Inherited by a fork: while it is open, HDF5 would hand out the parent's descriptor again.
                self._handle.close()
            self._handle = None
            require_file(self.path, self.content)
            try:
                self._handle = h5py.File(self.path, "r")
            except OSError as error:
                raise OSError(
                    f"{self.path} is truncated or is not an HDF5 file ({error}); copy or download it again"
                ) from error
            self._owner = os.getpid()
        return self._handle

    def __len__(self) -> int:
        return len(self._open())

    def __contains__(self, key: str) -> bool:
        return key in self._open()

    def where(self, key: str) -> str:
        """The place of a video's data set, for messages."""
        return f"{self.path}, video {key}"

    def read(self, key: str) -> np.ndarray:
        """The data set of `key`, which has to be in the file."""
        return self._data_set(key, lambda data: data[()])

    def attribute(self, key: str, name: str) -> np.ndarray | None:
        """Attribute `name` of the data set of `key`; None if it has none of that name."""
        value = self._data_set(key, lambda data: data.attrs.get(name))
        return None if value is None else np.asarray(value)

    def _data_set(self, key: str, get: Any) -> Any:
        import h5py

        file = self._open()
        try:
            data = file[key]
            if not isinstance(data, h5py.Dataset):
                raise ValueError(f"{self.path}: {key} is a group, expected a data set")
            return get(data)
        except (OSError, RuntimeError) as error:
            raise OSError(f"{self.path}: {key} cannot be read, the file is damaged ({error})") from error
