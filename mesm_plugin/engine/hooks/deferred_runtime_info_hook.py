# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Losses and gradient norms for the logs, which are read from a device when they are logged."""

from typing import Any

import torch
from mmengine.hooks import Hook, LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner
from torch import Tensor

from mesm_plugin.registry import HOOKS

LONGEST_WAIT = 20
"""Steps after which numbers are read where nothing logs."""


@HOOKS.register_module()
class DeferredRuntimeInfoHook(RuntimeInfoHook):
    """MMEngine's hook, which does not wait for a device in each step.

    Losses and the norm of the gradients stay on the device until the logger logs, an epoch ends or a checkpoint is
    saved, and are then read together. The numbers that are logged are the same. Those of a CPU are read in each step.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[dict[str, Tensor], Tensor | None]] = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Keeps the losses, and reads all that are kept where it is time to."""
        values = list((outputs or {}).values())
        if not values or not all(isinstance(x, Tensor) for x in values) or values[0].is_cpu:
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
            return
        record = getattr(runner.optim_wrapper, "record", None)
        numbers = {name: x.detach() for name, x in (outputs or {}).items()}
        if record is not None:
            numbers["grad_norm"] = record.norm
        self._pending.append((numbers, None if record is None else record.finite))
        if is_read(runner, self, batch_idx):
            self._read(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Completes the history that is saved."""
        if self._pending:
            self._read(runner)
            checkpoint["message_hub"] = runner.message_hub.state_dict()

    def _read(self, runner: Runner) -> None:
        pending, self._pending = self._pending, []
        tensors = [x for numbers, finite in pending for x in (*numbers.values(), finite) if x is not None]
        values = iter(torch.stack([x.double() for x in tensors]).tolist())
        for numbers, finite in pending:
            step = {name: next(values) for name in numbers}
            if finite is not None and not next(values):
                del step["grad_norm"]
            for name, value in step.items():
                runner.message_hub.update_scalar(f"train/{name}", value)


def is_read(runner: Runner, hook: Hook, batch_idx: int) -> bool:
    """Whether numbers on a device are read after this step: the logger logs, or the epoch ends."""
    interval = next((x.interval for x in runner.hooks if isinstance(x, LoggerHook)), LONGEST_WAIT)
    return hook.every_n_inner_iters(batch_idx, interval) or hook.end_of_epoch(runner.train_dataloader, batch_idx)
