# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Clip features of videos, read by video id."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from mesm_plugin.datasets.array_files import ArrayFolder
from mesm_plugin.datasets.arrays import check_width, checked_sequence, l2_normalize
from mesm_plugin.datasets.checked_arrays import Shape, StampedSource, check_arrays
from mesm_plugin.datasets.hdf5 import HDF5File
from mesm_plugin.registry import DATASETS

Paths = str | Path | Sequence[str | Path]


class MissingFeaturesError(KeyError):
    """A video has no features. Its message prints as it is, where a KeyError would print it quoted."""

    def __str__(self) -> str:
        return str(self.args[0])


class FeatureStore(ABC):
    """Clip features by video id; `str(store)` says in messages where they come from.

    Attributes:
        normalize: Whether the features of each source are divided by their L2 norm, clip by clip.
        dims: Channels of each source, whose features are joined; None where any will do.
    """

    normalize: bool = False
    dims: Sequence[int | None] = (None,)

    @abstractmethod
    def __getitem__(self, vid: str) -> np.ndarray:
        """Clip features (Lv, Dv) float32 of a video, finite and with Lv >= 1.

        Raises:
            MissingFeaturesError: The video has no features.
            ValueError: The features are no finite (Lv, Dv) matrix of the expected width.
        """

    @abstractmethod
    def __contains__(self, vid: str) -> bool: ...

    def find_problems(self, vids: Sequence[str]) -> dict[str, str]:
        """What is wrong with the features of videos, by video; those that can be used are not in it.

        Raises:
            OSError: A file with the features of all videos is missing or damaged.
        """
        problems = {}
        for vid in vids:
            try:
                _ = self[vid]
            except (OSError, ValueError, MissingFeaturesError) as error:
                problems[vid] = str(error)
        return problems

    def num_clips(self, vids: Sequence[str]) -> dict[str, int]:
        """Lv of videos that have good features, by video."""
        return {vid: len(self[vid]) for vid in vids}

    def join(self, parts: Sequence[np.ndarray], places: Sequence[str] | None = None) -> np.ndarray:
        """Checks, normalises and joins the features of one video as those of the store's own videos.

        Args:
            parts: One array (Lv, D) for each source of the store, or a single one with the channels of all.
            places: Where each comes from, for messages.

        Returns:
            (Lv, Dv) float32, cut to the shortest part.

        Raises:
            ValueError: The number of arrays or a width is not that of the store, or a value is not finite.
        """
        widths = [dim for dim in self.dims if dim is not None]
        if len(parts) == 1 < len(self.dims) == len(widths) and parts[0].ndim == 2 and parts[0].shape[1] == sum(widths):
            parts = np.split(parts[0], np.cumsum(widths[:-1]), axis=1)
            places = places and list(places) * len(parts)
        if len(parts) != len(self.dims):
            raise ValueError(
                f"got {len(parts)} feature arrays, expected {len(self.dims)}, as the data set has feature files"
            )
        places = places or [f"feature array {number}" for number in range(len(parts))]
        checked = [
            checked_sequence(np.asarray(part), place, "clip", dim)
            for part, place, dim in zip(parts, places, self.dims, strict=True)
        ]
        shortest = min(map(len, checked))
        joined = np.empty((shortest, sum(part.shape[1] for part in checked)), np.float32)
        begin = 0
        for part in checked:
            place = joined[:, begin : begin + part.shape[1]]
            if self.normalize:
                l2_normalize(part[:shortest], out=place)
            else:
                place[:] = part[:shortest]
            begin += part.shape[1]
        return joined


class ArraySource(StampedSource, Protocol):
    """Where a store reads the arrays of its videos: a file or a folder."""

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
        self.dims = [None] * len(sources) if dims is None else list(dims)
        self._sources = list(sources)

    def __str__(self) -> str:
        return " + ".join(f"{source.path} ({len(source)} videos)" for source in self._sources)

    def __contains__(self, vid: str) -> bool:
        return all(vid in source for source in self._sources)

    def find_problems(self, vids: Sequence[str]) -> dict[str, str]:
        """See `FeatureStore.find_problems`; good files are read once and packed ones not at all, see `check_arrays`."""
        problems: dict[str, str] = {}
        for source, dim in zip(self._sources, self.dims, strict=True):
            broken: dict[str, str] = {}
            found, count = [], len(source)
            for vid in vids:
                try:
                    if vid in source:
                        found.append(vid)
                    else:
                        broken[vid] = _missing(source, vid, count)
                # Two files of one video, or an id that no file can be called by.
                except (OSError, ValueError) as error:
                    broken[vid] = str(error)
            shapes, unreadable = _check_clips(source, found)
            for vid, (_, channels) in shapes.items():
                try:
                    check_width(channels, source.where(vid), dim)
                except ValueError as error:
                    broken[vid] = str(error)
            problems = broken | unreadable | problems
        return problems

    def num_clips(self, vids: Sequence[str]) -> dict[str, int]:
        """See `FeatureStore.num_clips`; what `find_problems` has read is not read again."""
        shapes = [_check_clips(source, vids)[0] for source in self._sources]
        return {vid: min(of_source[vid][0] for of_source in shapes) for vid in vids}

    def __getitem__(self, vid: str) -> np.ndarray:
        missing = next((source for source in self._sources if vid not in source), None)
        if missing is not None:
            raise MissingFeaturesError(_missing(missing, vid, len(missing)))
        parts = [source.read(vid) for source in self._sources]
        return self.join(parts, [source.where(vid) for source in self._sources])


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
    """Features in folders with one file a video, whose name is the video id and one of `endings`.

    Args:
        folders: One path or several.
        normalize: Divides every clip by its L2 norm, per folder.
        dims: Expected channels of each folder's files; unchecked if None.

    Raises:
        FileNotFoundError: On first use, if a folder is missing.
        ValueError: When a video is read whose file is damaged or holds something else than one array.
    """

    unit = "folder"
    endings: ClassVar[tuple[str, ...]]

    def __init__(self, folders: Paths, normalize: bool = True, dims: Sequence[int] | None = None) -> None:
        paths = _paths(folders, "folders", f"folder of {' or '.join(self.endings)} files")
        super().__init__([ArrayFolder(path, self.endings) for path in paths], normalize, dims)


@DATASETS.register_module()
class TorchFeatureStore(FolderFeatureStore):
    """Features in folders with one `VIDEO.pt` a video, a tensor (Lv, D) or a dict with one called "features".

    MMAction2's `CharadesSTADataset` has this layout. Files are loaded without running what may be pickled in them.
    Arguments as `FolderFeatureStore`.
    """

    endings = (".pt",)


@DATASETS.register_module()
class NumpyFeatureStore(FolderFeatureStore):
    """Features in folders with one `VIDEO.npz` a video, as those of QVHighlights are published, or one `VIDEO.npy`.

    A file holds one array (Lv, D), or an `.npz` several of which one is called "features". Arguments as
    `FolderFeatureStore`.
    """

    endings = (".npz", ".npy")


def _check_clips(source: ArraySource, vids: Sequence[str]) -> tuple[dict[str, Shape], dict[str, str]]:
    def shape_of(vid: str) -> Shape:
        rows, channels = checked_sequence(source.read(vid), source.where(vid), "clip").shape
        return rows, channels

    return check_arrays(source, vids, shape_of, "clips")


def _missing(source: ArraySource, vid: str, held: int) -> str:
    return f"{source.path} has no features of video {vid} (it holds {held} videos)"


def _paths(given: Paths, argument: str, what: str) -> list[str | Path]:
    paths = [given] if isinstance(given, (str, Path)) else list(given)
    if not paths:
        raise ValueError(f"{argument} is empty, expected the path of at least one {what}")
    return paths
