# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""All inputs of a config."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from mmengine.config import Config

from mesm_plugin.checking.input_report import InputReport
from mesm_plugin.checking.model_check import check_model, check_work_dir
from mesm_plugin.checking.split_check import check_split
from mesm_plugin.datasets import GroundingDataset
from mesm_plugin.datasets.checked_arrays import forget_checked
from mesm_plugin.engine.config_checking import check_config

SPLITS = ("train", "val", "test")


def check_inputs(config: Config, options: Sequence[str] = (), splits: Sequence[str] = SPLITS) -> InputReport:
    """Looks at all that a config names, and goes on after what is broken.

    Every file is read, also those that an earlier run found good.

    Args:
        config: The config, with `work_dir`.
        options: The `key=value` options that were merged into it.
        splits: Which of "train", "val" and "test" to look at.
    """
    report = InputReport(str(config.filename))
    with report.collecting("config"):
        check_config(config, options)
    check_work_dir(config, report)
    try:
        forget_checked()
    except OSError as error:
        report.notices.append(
            f"features that an earlier run found good are not read again: {error.filename}: {error.strerror}"
        )
    datasets = {}
    for split in splits:
        loader = config.get(f"{split}_dataloader")
        if loader is None:
            report.notices.append(f"the config has no {split}_dataloader")
        elif not (isinstance(loader, Mapping) and isinstance(loader.get("dataset"), Mapping)):
            report.add("config", f"{split}_dataloader", "has no 'dataset', expected the config of a data set")
        elif (dataset := check_split(split, loader["dataset"], report)) is not None:
            datasets[split] = dataset
    _note_shared_videos(datasets, report)
    if config.get("model") is None:
        report.add("config", "model", "is missing, expected the config of a grounder")
    else:
        check_model(config, datasets, report)
    return report


def _note_shared_videos(datasets: Mapping[str, Any], report: InputReport) -> None:
    sources = {
        split: {dataset.get_data_info(index)["source"] for index in range(len(dataset))}
        for split, dataset in datasets.items()
        if isinstance(dataset, GroundingDataset)
    }
    for one, other in combinations(sources, 2):
        if shared := len(sources[one] & sources[other]):
            report.notices.append(f"{one} and {other} share {shared} videos")
