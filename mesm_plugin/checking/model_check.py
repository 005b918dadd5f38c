# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Whether a model takes the data, and the checkpoints that a config names fit it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner

from mesm_plugin.checking.input_report import InputReport
from mesm_plugin.datasets import GroundingDataset
from mesm_plugin.engine.checkpoint import check_fit, check_initial_weights, latest_checkpoint, read_checkpoint
from mesm_plugin.engine.train_and_test import check_word_classes
from mesm_plugin.registry import MODELS


def check_model(config: Config, datasets: Mapping[str, Any], report: InputReport) -> None:
    """Builds the model, and puts a batch of every split through it on the CPU.

    Args:
        config: The whole config.
        datasets: Of the splits that can be used.
        report: To which problems are added.
    """
    with report.collecting("model initial weights"):
        check_initial_weights(config.get("model"))
    model = None
    with report.collecting("model"):
        model = MODELS.build(config.model)
    if model is None:
        return
    _check_checkpoint(config, model, report)
    if not isinstance(model, BaseModel):
        report.notices.append(f"no batch was put through a {type(model).__name__}, which is no model of MMEngine")
        return
    for split, dataset in datasets.items():
        if split == "train":
            with report.collecting("model"):
                check_word_classes(dataset, model)
        if _check_widths(split, dataset, config, report):
            with report.collecting(f"model with a batch of {split}"):
                _try_batch(split, dataset, config, model)


def _check_checkpoint(config: Config, model: torch.nn.Module, report: InputReport) -> None:
    file = config.get("load_from") or (latest_checkpoint(config.work_dir) if config.get("resume") else None)
    if file is not None:
        with report.collecting("checkpoint"):
            check_fit(model, read_checkpoint(file), file)


def _check_widths(split: str, dataset: Any, config: Config, report: InputReport) -> bool:
    """Whether features and words are as wide as the model expects."""
    if not isinstance(dataset, GroundingDataset):
        return True
    item = dataset[0]
    widths = {"video_dims": item["video"].shape[1], "text_dims": item["queries"][0]["words"].shape[1]}
    fits = True
    for name, width in widths.items():
        if (expected := config.model.get(name, width)) != width:
            of = " with the two temporal endpoint features" if name == "video_dims" and dataset.tef else ""
            report.add("model", f"model.{name}", f"is {expected}, but {split} has {width} channels{of}")
            fits = False
    return fits


def _try_batch(split: str, dataset: Any, config: Config, model: BaseModel) -> None:
    loader = config[f"{split}_dataloader"].to_dict() | {"dataset": dataset, "num_workers": 0}
    for option in ("persistent_workers", "prefetch_factor", "multiprocessing_context"):
        loader.pop(option, None)
    batch = next(iter(Runner.build_dataloader(loader, seed=0)))
    if split == "train":
        model.train()
        losses, _ = model.parse_losses(model._run_forward(model.data_preprocessor(batch, True), mode="loss"))
        if not torch.isfinite(losses):
            raise ValueError(f"the loss is {losses.item()}")
        return
    model.eval()
    with torch.inference_mode():
        samples = model.val_step(batch)
    evaluator = Evaluator(config[f"{split}_evaluator"])
    evaluator.dataset_meta = getattr(dataset, "metainfo", None)
    evaluator.process(data_samples=samples, data_batch=batch)


def check_work_dir(config: Config, report: InputReport) -> None:
    """Whether the work directory can be written."""
    with report.collecting("work directory"):
        folder = Path(config.work_dir)
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not existing.is_dir():
            raise ValueError(f"work_dir {folder}: {existing} is a file, expected a folder")
        probe = existing / ".mesm_check"
        try:
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ValueError(f"work_dir {folder}: {existing} cannot be written to ({error.strerror})") from error
