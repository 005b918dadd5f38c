# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Clip features of one video from files that a user names."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mesm_plugin.datasets.array_files import ENDINGS, read_array
from mesm_plugin.datasets.feature_store import MissingFeaturesError
from mesm_plugin.datasets.hdf5 import HDF5File


def read_feature_files(files: Sequence[str | Path], video: str | None = None) -> tuple[str, list[np.ndarray]]:
    """Reads the features of one video, as they are stored, from each of several files.

    Args:
        files: HDF5 files with one data set per video, or `.npy`, `.npz`, `.pt` or `.pth` files with one array (Lv, D).
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
        name, array = (file.stem, read_array(file)) if file.suffix.lower() in ENDINGS else _read_hdf5(file, video)
        names.append(name)
        arrays.append(array)
    return video or names[0], arrays


def _read_hdf5(path: Path, video: str | None) -> tuple[str, np.ndarray]:
    file = HDF5File(path, "feature file")
    if video is None:
        if len(file) != 1:
            raise ValueError(f"{path} holds {len(file)} videos; say which one is meant (--video on the command line)")
        (video,) = file
    if video not in file:
        raise MissingFeaturesError(f"{path} has no features of video {video} (it holds {len(file)} videos)")
    return video, file.read(video)
