# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Splits to look at, by the name of a published data set or from a config."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesm_plugin.datasets.dataset_names import DATASET_NAMES, PublishedDataset, published_dataset
from mesm_plugin.datasets.grounding_dataset import GroundingDataset
from mesm_plugin.registry import DATASETS


@dataclass
class OpenedSplits:
    """The splits of a data set, whose annotations are not read yet.

    Attributes:
        title: Of the data set.
        place: Where its annotations lie.
        splits: Data set of each split, which can `load_data_list`, but has neither features nor text encoder.
        vocabularies: Files of counted words -> how many of the most frequent words are classes.
    """

    title: str
    place: str
    splits: dict[str, GroundingDataset]
    vocabularies: dict[Path, int] = field(default_factory=dict)


def open_published(dataset: PublishedDataset) -> OpenedSplits:
    """All splits of a published data set; of its vocabularies those that exist.

    Charades-CG and Charades-CD have the vocabulary of Charades-STA if their own folder has none.
    """
    splits = {split: dataset.open(split) for split in dataset.splits}
    home = published_dataset("charades", dataset.root).folder
    vocabularies: dict[Path, int] = {}
    for file, size in dataset.vocabularies.items():
        path = Path(file)
        if not path.is_file() and dataset.name in ("charades_cg", "charades_cd"):
            path = home / path.name
        if path.is_file():
            vocabularies[path] = size
    return OpenedSplits(dataset.title, str(dataset.folder), splits, vocabularies)


def open_config(name: str, config: Mapping[str, Any]) -> OpenedSplits:
    """The data sets of a config's training, validation and test; each file of a list on its own.

    Args:
        name: Of the config.
        config: With `train_dataloader`, `val_dataloader` or `test_dataloader`.

    Raises:
        ValueError: It has none of them, or a data set is not one of this package's kind.
    """
    splits: dict[str, GroundingDataset] = {}
    vocabularies: dict[Path, int] = {}
    for split in ("train", "val", "test"):
        dataset = (config.get(f"{split}_dataloader") or {}).get("dataset")
        if dataset is None:
            continue
        files = dataset.get("ann_file")
        if isinstance(files, str) or files is None:
            splits[split] = _open(split, dataset)
        else:
            splits |= {f"{split}/{Path(file).stem}": _open(split, {**dataset, "ann_file": file}) for file in files}
        text = dataset.get("text") or {}
        if text.get("vocabulary") is not None and Path(text["vocabulary"]).is_file():
            vocabularies[Path(text["vocabulary"])] = text.get("vocabulary_size", 1111)
    if not splits:
        raise ValueError(f"config {name} has no train_dataloader, val_dataloader or test_dataloader with a data set")
    return OpenedSplits(name, "as the config says", splits, vocabularies)


def _open(split: str, dataset: Mapping[str, Any]) -> GroundingDataset:
    without = {key: None for key in ("features", "text") if key in dataset}
    opened = DATASETS.build({**dataset, **without, "lazy_init": True})
    if not isinstance(opened, GroundingDataset):
        names = ", ".join(DATASET_NAMES)
        raise ValueError(
            f"the {split} data set is a {type(opened).__name__}, expected a GroundingDataset, as those of {names}"
        )
    return opened
