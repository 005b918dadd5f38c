# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Clip features of one video from files that a user names."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mesm_plugin.datasets.array_files import ENDINGS, read_array
from mesm_plugin.datasets.arrays import checked_sequence, l2_normalize
from mesm_plugin.datasets.feature_store import FeatureStore, MissingFeaturesError
from mesm_plugin.datasets.hdf5 import HDF5File


def read_feature_files(files: Sequence[str | Path], video: str | None = None) -> tuple[str, list[np.ndarray]]:
    """Reads the features of one video, as they are stored, from each of several files.

    Args:
        files: HDF5 files with one data set per video, or `.npy`, `.npz` or `.pt` files with one array (Lv, D).
        video: Id of the video in HDF5 files, which may be left out if a file holds only one.

    Returns:
        The name of the video and one array a file.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError, ValueError: If a file is damaged, or it is not clear which array is meant.
        MissingFeaturesError: If an HDF5 file does not hold the video.
    """
    names, arrays = [], []
    for file in map(Path, files):
        name, array = (file.stem, read_array(file)) if file.suffix in ENDINGS else _read_hdf5(file, video)
        names.append(name)
        arrays.append(array)
    return video or names[0], arrays


def join_features(parts: Sequence[np.ndarray], store: FeatureStore) -> np.ndarray:
    """Normalises and joins the features of one video as the feature store of a data set does.

    Args:
        parts: One array (Lv, D) for each file of the store, or a single one with the channels of all files.
        store: The store.

    Returns:
        (Lv, Dv) float32.

    Raises:
        ValueError: If the number of arrays or a width is not that of the store, or a value is not finite.
    """
    dims: list[int | None] = getattr(store, "dims", [None])
    widths = [dim for dim in dims if dim is not None]
    if len(parts) == 1 < len(dims) == len(widths) and parts[0].ndim == 2 and parts[0].shape[1] == sum(widths):
        parts = np.split(parts[0], np.cumsum(widths[:-1]), axis=1)
    if len(parts) != len(dims):
        raise ValueError(
            f"got {len(parts)} feature arrays, expected {len(dims)}, as the config's data set has feature files"
        )
    checked = [
        checked_sequence(np.asarray(part), f"feature array {number}", "clip", dim)
        for number, (part, dim) in enumerate(zip(parts, dims, strict=True))
    ]
    if getattr(store, "normalize", False):
        checked = [l2_normalize(part) for part in checked]
    shortest = min(map(len, checked))
    return np.concatenate([part[:shortest] for part in checked], axis=1)


def _read_hdf5(path: Path, video: str | None) -> tuple[str, np.ndarray]:
    file = HDF5File(path, "feature file")
    if video is None:
        if len(file) != 1:
            raise ValueError(f"{path} holds {len(file)} videos; say which one is meant (--video on the command line)")
        video = _only_key(path)
    if video not in file:
        raise MissingFeaturesError(f"{path} has no features of video {video} (it holds {len(file)} videos)")
    return video, file.read(video)


def _only_key(path: Path) -> str:
    import h5py

    with h5py.File(path, "r") as file:
        return next(iter(file))
