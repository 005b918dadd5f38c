# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Clip features of videos, read by video id."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from mesm_plugin.datasets.array_files import ArrayFolder
from mesm_plugin.datasets.arrays import checked_sequence, l2_normalize
from mesm_plugin.datasets.hdf5 import HDF5File
from mesm_plugin.registry import DATASETS

Paths = str | Path | Sequence[str | Path]


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


class ArraySource(Protocol):
    """Where a store reads the arrays of its videos: a file or a folder."""

    path: Path

    def __len__(self) -> int: ...

    def __contains__(self, vid: str) -> bool: ...

    def where(self, vid: str) -> str:
        """The place of a video's array, for messages."""

    def read(self, vid: str) -> np.ndarray:
        """The array of a video that is there."""


class JoinedFeatureStore(FeatureStore):
    """Features of several sources (CLIP and SlowFast, say), joined on channels.

    They are joined in the given order, each normalised on its own before, and cut to the shortest. Sources are opened
    on first use, in each process anew.

    Args:
        sources: One or more.
        normalize: Divides every clip by its L2 norm, per source.
        dims: Expected channels of each source; unchecked if None.
    """

    unit: ClassVar[str]
    """What a source is, for messages."""

    def __init__(
        self, sources: Sequence[ArraySource], normalize: bool = True, dims: Sequence[int] | None = None
    ) -> None:
        if dims is not None and len(dims) != len(sources):
            raise ValueError(
                f"dims has {len(dims)} entries for {len(sources)} {self.unit}s, expected one per {self.unit}"
            )
        self.normalize = normalize
        self.dims: list[int | None] = [None] * len(sources) if dims is None else list(dims)
        self._sources = list(sources)

    def __str__(self) -> str:
        return " + ".join(f"{source.path} ({len(source)} videos)" for source in self._sources)

    def __contains__(self, vid: str) -> bool:
        return all(vid in source for source in self._sources)

    def __getitem__(self, vid: str) -> np.ndarray:
        parts = [self._read(source, vid, dim) for source, dim in zip(self._sources, self.dims, strict=True)]
        shortest = min(map(len, parts))
        return np.concatenate([part[:shortest] for part in parts], axis=1)

    def _read(self, source: ArraySource, vid: str, dim: int | None) -> np.ndarray:
        if vid not in source:
            raise MissingFeaturesError(f"{source.path} has no features of video {vid} (it holds {len(source)} videos)")
        features = checked_sequence(source.read(vid), source.where(vid), "clip", dim)
        return l2_normalize(features) if self.normalize else features


@DATASETS.register_module()
class HDF5FeatureStore(JoinedFeatureStore):
    """Features in HDF5 files with one data set (Lv, D) per video, as the released MESM code reads them.

    Args:
        files: One path or several.
        normalize: Divides every clip by its L2 norm, per file.
        dims: Expected channels of each file; unchecked if None.

    Raises:
        FileNotFoundError, OSError: On first use, if a file is missing, truncated or no HDF5 file.
    """

    unit = "file"

    def __init__(self, files: Paths, normalize: bool = True, dims: Sequence[int] | None = None) -> None:
        paths = _paths(files, "files", "HDF5 file")
        super().__init__([HDF5File(path, "feature file") for path in paths], normalize, dims)


class FolderFeatureStore(JoinedFeatureStore):
    """Features in folders with one file a video, whose name is the video id and `ending`.

    Args:
        folders: One path or several.
        normalize: Divides every clip by its L2 norm, per folder.
        dims: Expected channels of each folder's files; unchecked if None.

    Raises:
        FileNotFoundError: On first use, if a folder is missing.
        ValueError: When a video is read whose file is damaged or holds something else than one array.
    """

    unit = "folder"
    ending: ClassVar[str]

    def __init__(self, folders: Paths, normalize: bool = True, dims: Sequence[int] | None = None) -> None:
        paths = _paths(folders, "folders", f"folder of {self.ending} files")
        super().__init__([ArrayFolder(path, self.ending) for path in paths], normalize, dims)


@DATASETS.register_module()
class TorchFeatureStore(FolderFeatureStore):
    """Features in folders with one `VIDEO.pt` a video, a tensor (Lv, D).

    MMAction2's `CharadesSTADataset` has this layout. Files are loaded without running what may be pickled in them.
    Arguments as `FolderFeatureStore`.
    """

    ending = ".pt"


@DATASETS.register_module()
class NumpyFeatureStore(FolderFeatureStore):
    """Features in folders with one `VIDEO.npz` a video, as those of QVHighlights are published.

    A file holds one array (Lv, D), or several of which one is called "features". Arguments as `FolderFeatureStore`.
    """

    ending = ".npz"


def _paths(given: Paths, argument: str, what: str) -> list[str | Path]:
    paths = [given] if isinstance(given, (str, Path)) else list(given)
    if not paths:
        raise ValueError(f"{argument} is empty, expected the path of at least one {what}")
    return paths
