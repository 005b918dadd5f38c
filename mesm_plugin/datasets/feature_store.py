# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Clip features of videos, read by video id."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mesm_plugin.datasets.arrays import checked_sequence, l2_normalize
from mesm_plugin.datasets.hdf5 import HDF5File
from mesm_plugin.registry import DATASETS


class MissingFeaturesError(KeyError):
    """A video has no features. Its message prints as it is, where a KeyError would print it quoted."""

    def __str__(self) -> str:
        return str(self.args[0])


class FeatureStore(ABC):
    """Clip features by video id; `str(store)` says in messages where they come from."""

    @abstractmethod
    def __getitem__(self, vid: str) -> np.ndarray:
        """Clip features (Lv, Dv) float32 of a video, finite and with Lv >= 1.

        Raises:
            MissingFeaturesError: The video has no features.
            ValueError: The features are no finite (Lv, Dv) matrix of the expected width.
        """

    @abstractmethod
    def __contains__(self, vid: str) -> bool: ...


@DATASETS.register_module()
class HDF5FeatureStore(FeatureStore):
    """Features in HDF5 files with one data set (Lv, D) per video, as the released MESM code reads them.

    Several files (CLIP and SlowFast, say) are joined on channels in the given order, each normalised on its own before,
    and cut to the shortest. Files are opened on first use, in each process anew.

    Args:
        files: One path or several.
        normalize: Divides every clip by its L2 norm, per file.
        dims: Expected channels of each file; unchecked if None.

    Raises:
        FileNotFoundError, OSError: On first use, if a file is missing, truncated or no HDF5 file.
    """

    def __init__(
        self, files: str | Path | Sequence[str | Path], normalize: bool = True, dims: Sequence[int] | None = None
    ) -> None:
        paths = [files] if isinstance(files, (str, Path)) else list(files)
        if not paths:
            raise ValueError("files is empty, expected the path of at least one HDF5 file")
        if dims is not None and len(dims) != len(paths):
            raise ValueError(f"dims has {len(dims)} entries for {len(paths)} files, expected one per file")
        self.normalize = normalize
        self.dims: list[int | None] = [None] * len(paths) if dims is None else list(dims)
        self._files = [HDF5File(path, "feature file") for path in paths]

    def __str__(self) -> str:
        return " + ".join(f"{file.path} ({len(file)} videos)" for file in self._files)

    def __contains__(self, vid: str) -> bool:
        return all(vid in file for file in self._files)

    def __getitem__(self, vid: str) -> np.ndarray:
        parts = [self._read(file, vid, dim) for file, dim in zip(self._files, self.dims, strict=True)]
        shortest = min(map(len, parts))
        return np.concatenate([part[:shortest] for part in parts], axis=1)

    def _read(self, file: HDF5File, vid: str, dim: int | None) -> np.ndarray:
        if vid not in file:
            raise MissingFeaturesError(f"{file.path} has no features of video {vid} (it holds {len(file)} videos)")
        features = checked_sequence(file.read(vid), f"{file.path}, video {vid}", "clip", dim)
        return l2_normalize(features) if self.normalize else features
