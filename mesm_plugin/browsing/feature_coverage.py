# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Whether annotated videos have features."""

from pathlib import Path
from typing import Any

from mesm_plugin.browsing.statistics import Videos, distribution
from mesm_plugin.datasets.feature_store import (
    FeatureStore,
    HDF5FeatureStore,
    NumpyFeatureStore,
    TorchFeatureStore,
)


def open_features(path: Path) -> FeatureStore:
    """The store of an HDF5 file, or of a folder with one `.npz`, `.npy` or `.pt` file a video.

    Raises:
        FileNotFoundError: There is neither a file nor a folder.
        ValueError: The folder has no such files.
    """
    if not path.exists():
        raise FileNotFoundError(f"features not found: {path} is neither a file nor a folder")
    if path.is_file():
        return HDF5FeatureStore([path])
    endings = {file.suffix for file in path.iterdir()}
    for store in (NumpyFeatureStore, TorchFeatureStore):
        if not endings.isdisjoint(store.endings):
            return store([path])
    raise ValueError(f"{path} has no .npz, .npy or .pt files, expected one a video")


def feature_coverage(videos: Videos, features: FeatureStore) -> dict[str, Any]:
    """Reads the features of every video.

    Returns:
        `missing`, the videos without features; `unreadable`, what is wrong with the features of a video; and, if any
        can be read, the distributions `clips` of a video and `clips_a_second`.
    """
    missing: list[str] = []
    unreadable: dict[str, str] = {}
    clips, rates = [], []
    for vid, duration in {video["vid"]: video["duration"] for video in videos}.items():
        if vid not in features:
            missing.append(vid)
            continue
        try:
            count = len(features[vid])
        except (OSError, ValueError, KeyError) as error:
            unreadable[vid] = str(error)
            continue
        clips.append(count)
        rates.append(count / duration)
    record: dict[str, Any] = {"missing": missing, "unreadable": unreadable}
    if clips:
        record |= {"clips": distribution(clips), "clips_a_second": distribution(rates)}
    return record
