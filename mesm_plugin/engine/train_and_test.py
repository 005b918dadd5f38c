# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Training and testing a config with MMEngine's runner."""

import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import barrier
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mesm_plugin.engine.checkpoint import (
    CheckpointError,
    check_fit,
    check_initial_weights,
    check_resumable,
    latest_checkpoint,
    read_checkpoint,
)
from mesm_plugin.engine.config_loading import ConfigError
from mesm_plugin.engine.freed_memory import keep_freed_memory
from mesm_plugin.engine.heartbeat import Heartbeat
from mesm_plugin.engine.hooks import PredictionPlotHook, ResumedBestHook
from mesm_plugin.engine.launcher import prepare_processes
from mesm_plugin.engine.safe_load import allow_checkpoint_classes
from mesm_plugin.engine.trained_model import bare_model


@dataclass(frozen=True)
class Result:
    """Scores of a model on one split.

    Attributes:
        split: "test" or "validation".
        data: Which data set that is, in words.
        metrics: What the evaluator returned.
        checkpoint: The file whose weights were scored; None for those that training ended with.
        chosen_on: The split on which this checkpoint was found to be the best; None if it was not chosen so.
        plot: Picture of predictions, if one was drawn.
    """

    split: str
    data: str
    metrics: dict[str, Any]
    checkpoint: Path | None
    chosen_on: str | None = None
    plot: Path | None = None

    @property
    def scores(self) -> dict[str, float | None]:
        """The metrics as numbers that JSON knows: those that are not finite are None."""
        numbers = {name: float(value) for name, value in self.metrics.items()}
        return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def train(config: Config) -> Result | None:
    """Trains and then scores the best checkpoint, or else the last, on the test split.

    A config without a test split is scored on its validation split; the result is None if it has neither.

    Raises:
        ConfigError: If the config has nothing to train with.
        CheckpointError: If the checkpoint to resume is damaged or that of another model.
    """
    with Heartbeat() as heartbeat:
        return _train(config, heartbeat)


def _train(config: Config, heartbeat: Heartbeat) -> Result | None:
    if config.get("train_cfg") is None:
        raise ConfigError(f"{config.filename} has no train_dataloader, train_cfg and optim_wrapper to train with")
    resumed = _checkpoint_to_resume(config)
    check_initial_weights(config.get("model"))
    runner = _build_runner(config)
    heartbeat.start()
    if resumed is not None:
        check_fit(bare_model(runner.model), *resumed)
        check_resumable(*resumed)
        runner.load_or_resume = _resume_or_name(runner.load_or_resume, resumed[1])
        runner.register_hook(ResumedBestHook())
    elif config.get("resume"):
        runner.logger.info(f"There is no checkpoint to resume in {runner.work_dir}; training starts from scratch.")
    elif config.get("load_from"):
        check_fit(bare_model(runner.model), read_checkpoint(config.load_from), config.load_from)
    check_word_classes(runner.train_dataloader.dataset, runner.model)
    # MMEngine builds the test split after training, which is late to learn that a file of it is missing.
    _ = runner.test_loop
    runner.train()
    # The first process writes checkpoints, the others look for them.
    barrier()
    best, last = (runner.message_hub.get_info(f"{which}_ckpt", None) for which in ("best", "last"))
    checkpoint = next((Path(path) for path in (best, last) if path and Path(path).is_file()), None)
    if config.get("test_cfg") is None and config.get("val_cfg") is None:
        return None
    if checkpoint is not None:
        runner.load_checkpoint(str(checkpoint), strict=True)
    chosen_on = None
    if best and checkpoint == Path(best):
        chosen_on = "test" if _validates_on_test(runner) else "validation"
    return _score(runner, config, checkpoint, chosen_on)


def test(config: Config, checkpoint: str | Path) -> Result:
    """Scores a checkpoint on the test split.

    Raises:
        ConfigError: If the config has no test split.
        FileNotFoundError, CheckpointError: If the checkpoint is missing, damaged or that of another model.
    """
    if config.get("test_cfg") is None:
        raise ConfigError(f"{config.filename} has no test_dataloader, test_cfg and test_evaluator")
    read = read_checkpoint(checkpoint)
    with Heartbeat() as heartbeat:
        runner = _build_runner(config)
        heartbeat.start()
        check_fit(bare_model(runner.model), read, checkpoint)
        runner.load_checkpoint(str(checkpoint), strict=True)
        return _score(runner, config, Path(checkpoint))


def _build_runner(config: Config) -> Runner:
    allow_checkpoint_classes()
    if not torch.cuda.is_available():
        keep_freed_memory()
    prepare_processes(config)
    runner = RUNNERS.build(config)
    runner.logger.addFilter(_is_not_file_client_notice)
    # Every checkpoint holds the text of the config, which takes longer to format than most steps.
    object.__setattr__(runner.cfg, "_format_python_code", False)
    return runner


def _is_not_file_client_notice(record: logging.LogRecord) -> bool:
    """Drops two deprecation notices that MMEngine's checkpoint hook raises against MMEngine itself, in every run."""
    return not str(record.msg).startswith(('"FileClient" will be deprecated', '"HardDiskBackend" is the alias'))


def _checkpoint_to_resume(config: Config) -> tuple[dict[str, Any], str] | None:
    """What the checkpoint that training will go on from holds, and its file."""
    if not config.get("resume"):
        return None
    path = config.get("load_from") or latest_checkpoint(config.work_dir)
    if path is None:
        return None
    config.load_from = str(path)
    return read_checkpoint(path), config.load_from


def _resume_or_name(resume: Callable[[], None], checkpoint: str) -> Callable[[], None]:
    """Names the checkpoint in whatever MMEngine or PyTorch raise of the state of optimiser, schedules or loop in it."""

    def resume_or_name() -> None:
        try:
            resume()
        except Exception as error:
            kind = "" if str(error).count(" ") > 1 else f"{type(error).__name__}: "
            raise CheckpointError(f"checkpoint {checkpoint} cannot be resumed from: {kind}{error}") from error

    return resume_or_name


def _validates_on_test(runner: Runner) -> bool:
    """Whether videos of the test split took part in choosing the best checkpoint."""
    if runner.test_loop is None or runner.val_loop is None:
        return False
    validated, tested = (_video_ids(loop.dataloader.dataset) for loop in (runner.val_loop, runner.test_loop))
    return not validated.isdisjoint(tested)


def _video_ids(dataset: Any) -> set[str]:
    if not hasattr(dataset, "get_data_info"):
        return set()
    return {dataset.get_data_info(i).get("vid") for i in range(len(dataset))}


def check_word_classes(dataset: Any, model: Any) -> None:
    """Raises ConfigError if the data set's text encoder has more classes of words than the model can tell apart."""
    text = getattr(dataset, "text", None)
    classes = getattr(text, "num_classes", None)
    enhancer = getattr(getattr(bare_model(model), "aligner", None), "frame_word", None)
    known = getattr(enhancer, "num_word_classes", None)
    if classes is not None and known is not None and classes > known:
        raise ConfigError(
            f"model.aligner.frame_word.num_word_classes is {known}, but {type(text).__name__} of the training set has "
            f"{classes} classes of words"
        )


def _score(runner: Runner, config: Config, checkpoint: Path | None, chosen_on: str | None = None) -> Result:
    split = "test" if config.get("test_cfg") is not None else "validation"
    metrics = runner.test() if split == "test" else runner.val()
    runner.visualizer.close()
    dataset = (runner.test_dataloader if split == "test" else runner.val_dataloader).dataset
    plots = [hook.path for hook in runner.hooks if isinstance(hook, PredictionPlotHook)]
    return Result(split, _describe(dataset), metrics, checkpoint, chosen_on, next(filter(None, plots), None))


def _describe(dataset: Any) -> str:
    parts = [type(dataset).__name__]
    files = getattr(dataset, "ann_files", None) or [getattr(dataset, "ann_file", "")]
    parts += [os.path.basename(file) for file in files if file]
    parts += [f"{name} {value!r}" for name in ("split", "holdout") if (value := getattr(dataset, name, None))]
    parts.append(f"{len(_video_ids(dataset)) or len(dataset)} videos")
    if left_out := getattr(dataset, "left_out", None):
        parts.append(f"{len(left_out)} broken left out")
    return ", ".join(parts)
