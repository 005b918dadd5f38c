# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Whether the files of a config are there, and as wide as it says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
from mmengine.config import Config

KEYS = ("files", "folders", "file", "vocabulary", "ann_file", "duration_file")
# With labels, or else without.
TEST_OF_QVHIGHLIGHTS = ("highlight_test_with_gt.jsonl", "highlight_test_release.jsonl")


def problems_of(config: Config) -> list[str]:
    """What is wrong with the files of the data sets of a config, a sentence each; empty if nothing is.

    Looked at is whether each file exists, and the channels of the first video in every feature file. The data sets
    themselves check every video when training starts.
    """
    problems: dict[str, None] = {}
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        dataset = config[loader].dataset
        paths = list(_paths(dataset))
        if dataset.type == "QVHighlightsDataset":
            paths.append(str(test_of_qvhighlights(dataset.ann_file)))
        for path in paths:
            if not Path(path).exists():
                problems[f"{path} is missing"] = None
        features = dataset.features
        if features.type == "HDF5FeatureStore":
            for file, dims in zip(features.files, features.get("dims") or [], strict=False):
                problem = _width_problem(Path(file), dims)
                if problem is not None:
                    problems[problem] = None
    return list(problems)


def test_of_qvhighlights(ann_file: str) -> Path:
    """The annotations of the test split beside those of another, with labels if they are there."""
    files = [Path(ann_file).with_name(name) for name in TEST_OF_QVHIGHLIGHTS]
    return next(filter(Path.exists, files), files[-1])


def _paths(node: Any) -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _paths(value)
        elif key in KEYS and value is not None:
            yield from ([value] if isinstance(value, str) else value)


def _width_problem(file: Path, dims: int) -> str | None:
    if not file.is_file():
        return None
    try:
        with h5py.File(file) as content:
            video = next(iter(content), None)
            if video is None:
                return f"{file} is empty, expected one data set per video"
            shape = tuple[int, ...](getattr(content[video], "shape", ()))
    except OSError as error:
        return f"{file} cannot be read as HDF5 ({error})"
    if len(shape) != 2 or shape[1] != dims:
        return f"{file}: video {video} has the shape {shape}, expected (clips, {dims})"
    return None
