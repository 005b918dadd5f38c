# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Ends a training whose losses or gradients are no longer finite."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mesm_plugin.engine.fully_sharded_runner import whole
from mesm_plugin.engine.guarded_optim_wrapper import GuardedOptimWrapper, StepRecord
from mesm_plugin.engine.hooks.deferred_runtime_info_hook import is_read
from mesm_plugin.engine.trained_model import bare_model
from mesm_plugin.registry import HOOKS
from mesm_plugin.utils import atomic_file


class NonFiniteError(ValueError):
    """Losses or gradients were NaN or infinite in too many steps."""


@dataclass
class PendingStep:
    """A step on a device whose numbers have not been read.

    Attributes:
        number: Of the step, from 1.
        vids: Of the batch.
        qids: Of the batch, by video.
        losses: () each, on the device.
        record: What the optimiser wrapper left.
    """

    number: int
    vids: list[str]
    qids: list[list[Any]]
    losses: dict[str, Tensor]
    record: StepRecord


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Tells of each step that `GuardedOptimWrapper` left out, and ends training after some in a row.

    What the last of them was computed from is then saved in `non_finite.pth` of the work directory (in a run of several
    processes one file a process): `vids`, `qids`, `inputs`, `losses`, the names of the parameters with `broken`
    gradients, `state_dict` and `optimizer`.

    On a device the numbers of all steps since the last time are read together when the logger logs, so it is told then,
    and `inputs` are saved only if the step was the last of them (None otherwise).

    Args:
        max_skipped: So many steps left out in a row end training.
    """

    def __init__(self, max_skipped: int = 10) -> None:
        if max_skipped < 1:
            raise ValueError(f"max_skipped is {max_skipped}, expected at least 1")
        self.max_skipped = max_skipped
        self._skipped = 0
        self._pending: list[PendingStep] = []

    def before_train(self, runner: Runner) -> None:
        """Checks that the optimiser wrapper leaves out steps.

        Raises:
            ValueError: It does not.
        """
        if not isinstance(runner.optim_wrapper, GuardedOptimWrapper):
            name = type(runner.optim_wrapper).__name__
            raise ValueError(f"NonFiniteHook needs optim_wrapper.type='GuardedOptimWrapper', got {name!r}")

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Counts the steps that were left out.

        Raises:
            NonFiniteError: They are too many.
        """
        vids = [sample.vid for sample in data_batch["data_samples"]]
        qids = [list(sample.qids) for sample in data_batch["data_samples"]]
        record = runner.optim_wrapper.record
        if record is None:
            if runner.optim_wrapper.finite:
                self._skipped = 0
                return
            losses = {name: float(value.detach()) for name, value in (outputs or {}).items()}
            self._count(runner, runner.iter + 1, vids, qids, losses, runner.optim_wrapper.broken, data_batch["inputs"])
            return
        detached = {name: value.detach() for name, value in (outputs or {}).items()}
        self._pending.append(PendingStep(runner.iter + 1, vids, qids, detached, record))
        if is_read(runner, self, batch_idx):
            self._read(runner, data_batch["inputs"])

    def _read(self, runner: Runner, inputs: Any) -> None:
        pending, self._pending = self._pending, []
        for step, finite in zip(pending, torch.stack([x.record.finite for x in pending]).tolist(), strict=True):
            if finite:
                self._skipped = 0
                continue
            losses = {name: float(value) for name, value in step.losses.items()}
            batch = inputs if step is pending[-1] else None
            self._count(runner, step.number, step.vids, step.qids, losses, step.record.broken(), batch)

    def _count(
        self,
        runner: Runner,
        number: int,
        vids: list[str],
        qids: list[list[Any]],
        losses: dict[str, float],
        broken: set[int],
        inputs: Any,
    ) -> None:
        self._skipped += 1
        wrong = [name for name, value in losses.items() if not math.isfinite(value)] or ["a gradient"]
        message = f"{', '.join(wrong)} not finite in step {number}, videos {', '.join(map(str, vids))}"
        if self._skipped < self.max_skipped:
            runner.logger.warning(f"{message}: the step was left out ({self._skipped} in a row)")
            return
        model = bare_model(runner.model)
        rank = get_rank()
        path = Path(runner.work_dir) / (f"non_finite_{rank}.pth" if rank else "non_finite.pth")
        content = {
            "step": number,
            "vids": vids,
            "qids": qids,
            # Without the class that workers send, which `torch.load` refuses.
            "inputs": None if inputs is None else dict(inputs),
            "losses": losses,
            "broken": [name for name, parameter in model.named_parameters() if id(parameter) in broken],
            # All processes come here in the same step.
            "state_dict": whole(model.state_dict()),
            "optimizer": whole(runner.optim_wrapper.state_dict()),
        }
        with atomic_file(path) as unfinished:
            torch.save(content, unfinished)
        raise NonFiniteError(
            f"{message}: training ends after {self._skipped} such steps in a row; {path} has the batch, the weights "
            "and the names of the parameters with broken gradients"
        )
