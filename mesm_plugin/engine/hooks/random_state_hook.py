# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Makes what is random in training go on where a checkpoint was saved."""

import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mesm_plugin.registry import HOOKS

KEY = "random_states"


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Keeps the states of the random-number generators in checkpoints, and apart from what validation draws.

    Training starts each epoch with the states that the last one ended with, whatever was drawn in between: by
    validation, or by data loaders that start, which draw more or less often with the number of their workers. So a
    resumed run gives the same losses as one that was never interrupted, and a run the same with any number of workers.

    The loaders' workers have no states to keep: what is random in a batch is drawn from the seed and the items
    (`collate_grounding`).
    """

    def __init__(self) -> None:
        self._states: list[dict[str, Any]] | None = None
        self._restored = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Takes the states from a checkpoint that is resumed."""
        states = checkpoint.get(KEY)
        if not runner._resume or states is None:
            return
        if len(states) != get_world_size():
            runner.logger.warning(
                f"The checkpoint is of {len(states)} processes and this run has {get_world_size()}: random numbers "
                "start anew, so the run differs from an uninterrupted one."
            )
            return
        present = _capture()
        try:
            # What cannot be restored is to show now, where the error is told with the checkpoint's name.
            _restore(states[get_rank()])
        finally:
            _restore(present)
        self._states = states

    def before_train_epoch(self, runner: Runner) -> None:
        """Makes the next step restore the states."""
        if self._states is None:
            self.keep()
        self._restored = False

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Restores the states in the first step of an epoch, when its data loader has started."""
        if not self._restored:
            assert self._states is not None
            _restore(self._states[get_rank()])
            self._restored = True

    def after_train_epoch(self, runner: Runner) -> None:
        """Keeps the states; those of a checkpoint stay if all steps of the epoch were done before it was saved."""
        if self._restored:
            self.keep()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Adds the states that were kept."""
        checkpoint[KEY] = self._states

    def keep(self) -> None:
        """Keeps the present states of all processes; has to be called in all of them."""
        self._states = all_gather_object(_capture())


def _capture() -> dict[str, Any]:
    """The states of this process, of types that `torch.load` takes for safe."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - libraries draw from it
    states = {
        "torch": torch.get_rng_state(),
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss],
        "python": random.getstate(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _restore(states: dict[str, Any]) -> None:
    torch.set_rng_state(_bytes(states["torch"]))
    name, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(_bytes(states["cuda"]))


def _bytes(state: Tensor) -> Tensor:
    # A checkpoint is loaded to the device of the model.
    return state.cpu().to(torch.uint8)
