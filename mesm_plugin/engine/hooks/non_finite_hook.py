# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Ends a training whose losses or gradients are no longer finite."""

from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mesm_plugin.engine.guarded_optim_wrapper import GuardedOptimWrapper
from mesm_plugin.registry import HOOKS
from mesm_plugin.utils import atomic_file


class NonFiniteError(ValueError):
    """Losses or gradients were NaN or infinite in too many steps."""


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Tells of each step that `GuardedOptimWrapper` left out, and ends training after some in a row.

    What the last of them was computed from is then saved in `non_finite.pth` of the work directory (in a run of several
    processes one file a process): `vids`, `qids`, `inputs`, `losses`, the names of the parameters with `broken`
    gradients, `state_dict` and `optimizer`.

    Args:
        max_skipped: So many steps left out in a row end training.
    """

    def __init__(self, max_skipped: int = 10) -> None:
        if max_skipped < 1:
            raise ValueError(f"max_skipped is {max_skipped}, expected at least 1")
        self.max_skipped = max_skipped
        self._skipped = 0

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
        if runner.optim_wrapper.finite:
            self._skipped = 0
            return
        self._skipped += 1
        losses = {name: float(value.detach()) for name, value in (outputs or {}).items()}
        vids = [sample.vid for sample in data_batch["data_samples"]]
        wrong = [name for name, value in losses.items() if not torch.tensor(value).isfinite()] or ["a gradient"]
        message = f"{', '.join(wrong)} not finite in step {runner.iter + 1}, videos {', '.join(map(str, vids))}"
        if self._skipped < self.max_skipped:
            runner.logger.warning(f"{message}: the step was left out ({self._skipped} in a row)")
            return
        path = self._save(runner, data_batch, vids, losses)
        raise NonFiniteError(
            f"{message}: training ends after {self._skipped} such steps in a row; {path} has the batch, the weights "
            "and the names of the parameters with broken gradients"
        )

    @staticmethod
    def _save(runner: Runner, batch: dict[str, Any], vids: list[str], losses: dict[str, float]) -> Path:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        broken = runner.optim_wrapper.broken
        rank = get_rank()
        path = Path(runner.work_dir) / (f"non_finite_{rank}.pth" if rank else "non_finite.pth")
        content = {
            "step": runner.iter + 1,
            "vids": vids,
            "qids": [list(sample.qids) for sample in batch["data_samples"]],
            "inputs": batch["inputs"],
            "losses": losses,
            "broken": [name for name, parameter in model.named_parameters() if id(parameter) in broken],
            "state_dict": model.state_dict(),
            "optimizer": runner.optim_wrapper.state_dict(),
        }
        with atomic_file(path) as unfinished:
            torch.save(content, unfinished)
        return path
