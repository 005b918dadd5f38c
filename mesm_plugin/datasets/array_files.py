# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Arrays in files of NumPy and PyTorch, one a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mesm_plugin.datasets.files import require_file
from mesm_plugin.utils import listed

ENDINGS = (".npy", ".npz", ".pt", ".pth")
# Of several arrays in a file these are meant, as Moment-DETR's files name clips and words.
USUAL_KEYS = ("features", "last_hidden_state")


class ArrayFolder:
    """A folder with one file per key, whose name is the key and an ending; nothing is kept open.

    Args:
        folder: Path of the folder.
        endings: Of its files, see `read_array`.

    Raises:
        FileNotFoundError: There is no such folder (raised on first use).
    """

    def __init__(self, folder: str | Path, endings: Sequence[str]) -> None:
        self.path = Path(folder)
        self.endings = tuple(endings)

    def __len__(self) -> int:
        return sum(1 for file in self._checked().iterdir() if file.suffix in self.endings)

    def __contains__(self, key: str) -> bool:
        return self._file(key).is_file()

    def where(self, key: str) -> str:
        """The file of a key, for messages."""
        return str(self._file(key))

    def stamp(self, key: str) -> tuple[int, int]:
        """Size in bytes and time of change in ns of the file of `key`."""
        state = self._file(key).stat()
        return state.st_size, state.st_mtime_ns

    def checked_shape(self, key: str) -> None:
        """None: each array has to be read to be checked."""

    def read(self, key: str) -> np.ndarray:
        """The array of `key`, which has to be in the folder."""
        return read_array(self._file(key))

    def _file(self, key: str) -> Path:
        files = [self._checked() / f"{key}{ending}" for ending in self.endings]
        found = [file for file in files if file.is_file()]
        if len(found) > 1:
            raise ValueError(f"{found[0]} and {found[1].name} both hold {key}; remove one of them")
        return found[0] if found else files[0]

    def _checked(self) -> Path:
        if not self.path.is_dir():
            problem = "is a file, not a folder" if self.path.exists() else "does not exist"
            raise FileNotFoundError(
                f"feature folder {self.path} {problem}; expected one with a {' or '.join(self.endings)} per video"
            )
        return self.path


def read_array(path: Path, key: str | None = None) -> np.ndarray:
    """Reads the array of a file, without running what may be pickled in it.

    Args:
        path: `.npy` with an array, `.npz` with one or several, `.pt` or `.pth` with a tensor or a dict of tensors.
        key: Name of the array among several; None for the only one, or that called "features" or else
            "last_hidden_state". A file of one array without a name has no keys.

    Raises:
        FileNotFoundError: There is no such file.
        PermissionError: It may not be read.
        ValueError: It is damaged, of another format, it does not have the key, or it is not clear which array is meant.
    """
    require_file(path, "feature file")
    return _tensor(path, key) if path.suffix.lower() in (".pt", ".pth") else _numpy_array(path, key)


def _numpy_array(path: Path, key: str | None) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            names = loaded.files
            name = _chosen(names, key)
            if name is not None:
                array = loaded[name]
                if not isinstance(array, np.ndarray):
                    raise ValueError(f"{name} is no array")
                return array
    except PermissionError:
        raise
    # Damaged archives and headers raise nearly everything.
    except Exception as error:
        if "Object arrays" in str(error):
            raise ValueError(
                f"{path} holds pickled objects, which are not safe to load; save an array of numbers"
            ) from error
        # Of bytes that it does not know NumPy says that they are pickled, and how to load that.
        reason = "" if "pickle" in str(error) else f" ({error})"
        raise ValueError(f"{path} is truncated or is not a NumPy file{reason}") from error
    raise ValueError(_unclear(path, "arrays", names, key))


def _tensor(path: Path, key: str | None) -> np.ndarray:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    # Damaged pickles raise nearly everything.
    except Exception as error:
        if "weights_only" in str(error):
            raise ValueError(
                f"{path} holds more than tensors, which is not safe to load; save the tensor (clips, channels) alone"
            ) from error
        raise ValueError(f"{path} is truncated or is not a file of torch.save") from error
    if isinstance(loaded, Mapping):
        name = _chosen(list(loaded), key)
        if name is None:
            raise ValueError(_unclear(path, "entries", list(loaded), key))
        loaded = loaded[name]
    if not isinstance(loaded, Tensor):
        raise ValueError(f"{path} holds a {type(loaded).__name__}, expected a tensor (clips, channels)")
    if loaded.layout != torch.strided or loaded.is_quantized or loaded.is_meta:
        raise ValueError(f"{path} holds a tensor that is sparse, quantised or without numbers, expected a dense one")
    # NumPy has no bfloat16.
    return (loaded.float() if loaded.dtype == torch.bfloat16 else loaded).detach().numpy()


def _chosen(names: Sequence[str], key: str | None) -> str | None:
    """The name that is meant; None if there is none or it is not clear."""
    if key is not None:
        return key if key in names else None
    if len(names) == 1:
        return names[0]
    return next((name for name in USUAL_KEYS if name in names), None)


def _unclear(path: Path, what: str, names: Sequence[str], key: str | None) -> str:
    held = listed(names) or "none"
    if key is not None:
        return f"{path} has no key {key!r}; it holds the {what} {held}"
    return f"{path} holds the {what} {held}; expected one, or one called {' or '.join(map(repr, USUAL_KEYS))}"
