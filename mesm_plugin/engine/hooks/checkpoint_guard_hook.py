# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Reads the checkpoints of a run safely, and refuses those of another model."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mesm_plugin.engine.checkpoint import check_fit, latest_checkpoint
from mesm_plugin.engine.safe_load import allow_checkpoint_classes
from mesm_plugin.engine.trained_model import bare_model
from mesm_plugin.registry import HOOKS


@HOOKS.register_module()
class CheckpointGuardHook(Hook):
    """Does for the tools of another codebase what `mesm train` and `mesm test` do about checkpoints.

    Without it, MMEngine's runner cannot resume with PyTorch 2.6 or newer, as torch's safe loading does not know the
    classes in MMEngine's checkpoints; and weights that are missing or left over are a warning, with which training
    starts, or a test runs, from random numbers.
    """

    def before_run(self, runner: Runner) -> None:
        """Allows exactly the classes that MMEngine writes into its checkpoints."""
        allow_checkpoint_classes()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compares what has been read with the model.

        Raises:
            CheckpointError: The checkpoint was trained for another model.
        """
        model = bare_model(runner.model)
        check_fit(model, checkpoint, runner._load_from or latest_checkpoint(runner.work_dir) or runner.work_dir)
