# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Saves a checkpoint when training is told to stop."""

import signal
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier, is_distributed
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mesm_plugin.engine.hooks.atomic_checkpoint_hook import AtomicCheckpointHook
from mesm_plugin.engine.hooks.random_state_hook import RandomStateHook
from mesm_plugin.registry import HOOKS

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Training was told to stop, and has saved a checkpoint.

    Attributes:
        signal: What told it.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal.Signals(number)


@HOOKS.register_module()
class InterruptionHook(Hook):
    """On Ctrl-C or SIGTERM, finishes the step, saves a checkpoint and ends training; a second Ctrl-C ends it at once.

    `AtomicCheckpointHook` saves, `ResumableTrainLoop` goes on in the middle of the epoch. In a run of several
    processes a signal to one of them stops all after the same step.
    """

    priority = "LOWEST"

    def __init__(self) -> None:
        self._signal = 0
        self._former: dict[int, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Listens to the signals."""
        try:
            self._former = {number: signal.signal(number, self._remember) for number in SIGNALS}
        except ValueError:
            runner.logger.warning(
                "Training is not in the main thread of its process: signals do not save a checkpoint."
            )

    def after_train(self, runner: Runner) -> None:
        """Gives the signals back."""
        self._stop_listening()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Saves and ends training if a signal has come.

        Raises:
            Interrupted: After saving.
        """
        if number := self._agreed(runner):
            for hook in runner.hooks:
                if isinstance(hook, RandomStateHook):
                    hook.keep()
            self._save_and_stop(runner, number, runner.iter + 1)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """As `after_train_iter`; a resumed run repeats the validation."""
        if number := self._agreed(runner):
            self._save_and_stop(runner, number, runner.iter)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        # A second Ctrl-C ends training at once. A second SIGTERM does not: a launcher sends one after every Ctrl-C.
        if signal.SIGINT in self._former:
            signal.signal(signal.SIGINT, self._former.pop(signal.SIGINT))

    def _stop_listening(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}

    def _agreed(self, runner: Runner) -> int:
        """The signal that any process has got."""
        if not is_distributed():
            return self._signal
        number = torch.tensor(self._signal, device=next(runner.model.parameters()).device)
        all_reduce(number, "max")
        return int(number)

    def _save_and_stop(self, runner: Runner, number: int, iteration: int) -> None:
        saver = next((hook for hook in runner.hooks if isinstance(hook, AtomicCheckpointHook)), None)
        name = signal.Signals(number).name
        if saver is None:
            self._stop_listening()
            raise Interrupted(number, f"stopped by {name}; nothing was saved, as there is no AtomicCheckpointHook")
        try:
            path = saver.save_interrupted(runner, {"epoch": runner.epoch, "iter": iteration})
            # One process writes. Launchers end all where one has ended: their signal must not meet it while it does.
            barrier()
        finally:
            self._stop_listening()
        raise Interrupted(number, f"stopped by {name}; saved {path}, from which --resume goes on")
