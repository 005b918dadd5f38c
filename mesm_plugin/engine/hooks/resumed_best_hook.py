# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Keeps a resumed run from deleting the best checkpoint of the run it goes on from."""

import shutil
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mesm_plugin.registry import HOOKS


@HOOKS.register_module()
class ResumedBestHook(Hook):
    """Brings the best checkpoint so far into the work directory of the run that is resumed.

    A checkpoint of MMEngine holds the full path of the best one so far, and the resumed run deletes that file when it
    finds a better. Where the work directory is another one than before, by `--work-dir` or because it was copied or
    moved, that file belongs to another run, or is gone.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Points what will be resumed to files in the work directory, copied there if need be."""
        info = checkpoint.get("message_hub", {}).get("runtime_info", {})
        for key in [key for key in info if key.startswith("best_ckpt")]:
            own = Path(runner.work_dir) / Path(info[key]).name
            if is_main_process() and not own.is_file() and Path(info[key]).is_file():
                shutil.copyfile(info[key], own)
            barrier()
            if own.is_file():
                info[key] = str(own)
            else:
                del info[key]
                info.pop(key.replace("best_ckpt", "best_score"), None)
