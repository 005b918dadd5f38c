# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Arrays in files of NumPy and PyTorch, one a file."""

import pickle
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mesm_plugin.datasets.files import require_file

ENDINGS = (".npy", ".npz", ".pt")
# What damaged files and files of other formats raise in np.load and torch.load.
_UNREADABLE = (
    ValueError,
    EOFError,
    OSError,
    RuntimeError,
    KeyError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
)


class ArrayFolder:
    """A folder with one file per key, whose name is the key and an ending; nothing is kept open.

    Args:
        folder: Path of the folder.
        ending: Of its files, see `read_array`.

    Raises:
        FileNotFoundError: There is no such folder (raised on first use).
    """

    def __init__(self, folder: str | Path, ending: str) -> None:
        self.path = Path(folder)
        self.ending = ending

    def __len__(self) -> int:
        return sum(1 for _ in self._checked().glob(f"*{self.ending}"))

    def __contains__(self, key: str) -> bool:
        return self._file(key).is_file()

    def where(self, key: str) -> str:
        """The file of a key, for messages."""
        return str(self._file(key))

    def read(self, key: str) -> np.ndarray:
        """The array of `key`, which has to be in the folder."""
        return read_array(self._file(key))

    def _file(self, key: str) -> Path:
        return self._checked() / f"{key}{self.ending}"

    def _checked(self) -> Path:
        if not self.path.is_dir():
            problem = "is a file, not a folder" if self.path.exists() else "does not exist"
            raise FileNotFoundError(
                f"feature folder {self.path} {problem}; expected one with a {self.ending} per video"
            )
        return self.path


def read_array(path: Path) -> np.ndarray:
    """Reads the array of a file, without running what may be pickled in it.

    Args:
        path: `.npy`; `.npz` with one array, or several of which one is called "features"; or `.pt` with a tensor.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, of another format, or it is not clear which array is meant.
    """
    require_file(path, "feature file")
    return _tensor(path) if path.suffix == ".pt" else _numpy_array(path)


def _numpy_array(path: Path) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            names = loaded.files
            name = "features" if "features" in names else names[0] if len(names) == 1 else None
            if name is not None:
                return loaded[name]
    except _UNREADABLE as error:
        raise ValueError(f"{path} is truncated or is not a NumPy file ({error})") from error
    raise ValueError(f"{path} holds the arrays {', '.join(names)}; expected one, or one called 'features'")


def _tensor(path: Path) -> np.ndarray:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        if "weights_only" in str(error):
            raise ValueError(
                f"{path} holds more than tensors, which is not safe to load; save the tensor (clips, channels) alone"
            ) from error
        raise ValueError(f"{path} is truncated or is not a file of torch.save") from error
    if not isinstance(loaded, Tensor):
        raise ValueError(f"{path} holds a {type(loaded).__name__}, expected a tensor (clips, channels)")
    # NumPy has no bfloat16.
    return (loaded.float() if loaded.is_floating_point() else loaded).detach().numpy()
