# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Writes down what one has to know to repeat a run."""

from pathlib import Path

from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mesm_plugin.engine.run_record import run_record
from mesm_plugin.registry import HOOKS
from mesm_plugin.utils import write_json


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Writes `run.json` (see `run_record`) beside the log of each start, a folder of the work directory."""

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Writes the file."""
        record = run_record(runner.cfg, runner.seed, get_world_size())
        write_json(Path(runner.log_dir) / "run.json", record, allow_nan=True, default=str)
