# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Saves checkpoints so that there is a whole one at any moment."""

from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mesm_plugin.engine.checkpoint_backend import CheckpointBackend
from mesm_plugin.registry import HOOKS
from mesm_plugin.utils import atomic_file, remove_unfinished

LAST_CHECKPOINT = "last_checkpoint"
INTERRUPTED = "interrupted.pth"


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's checkpoint hook, whose files appear whole or not at all, on local disks.

    MMEngine writes in place, and removes the checkpoint before the last, and the best one so far, before it writes the
    next; a process that is killed or runs out of disk space then leaves a damaged file or none. Here a file is written
    under a temporary name, flushed and moved, and what it replaces goes only after that.

    Args:
        kwargs: See `mmengine.hooks.CheckpointHook`. `backend_args` is set here, `file_client_args` cannot be.
    """

    file_backend: CheckpointBackend

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, backend_args={"backend": "mesm_checkpoint"})

    def before_train(self, runner: Runner) -> None:
        """Removes what a killed run left unfinished."""
        super().before_train(runner)
        if is_main_process():
            removed = remove_unfinished(self.out_dir)
            if removed:
                runner.logger.info(f"Removed {len(removed)} unfinished files of a run that was killed.")

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Tells how many batches an epoch has, by which the loop finds the place in it."""
        checkpoint["meta"]["batches_per_epoch"] = len(runner.train_dataloader)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Goes back to the beginning of the epoch where the batches are no longer the same."""
        meta = checkpoint.get("meta", {})
        if not runner._resume or "batches_per_epoch" not in meta:
            return
        now, before = len(runner.train_dataloader), meta["batches_per_epoch"]
        if now != before:
            if meta["iter"] > meta["epoch"] * before:
                runner.logger.warning(
                    f"An epoch had {before} batches when the checkpoint was saved and has {now} now: training goes on "
                    f"from the beginning of epoch {meta['epoch'] + 1}, with weights from the middle of it."
                )
            meta["iter"] = meta["epoch"] * now

    def save_interrupted(self, runner: Runner, meta: dict[str, int]) -> Path:
        """Saves a checkpoint from which `--resume` goes on; the next regular one takes its place.

        Args:
            meta: `epoch` and `iter` that are finished.
        """
        path = Path(self.out_dir) / INTERRUPTED
        runner.save_checkpoint(self.out_dir, INTERRUPTED, meta=meta, by_epoch=False, backend_args=self.backend_args)
        if is_main_process():
            _write_last(runner, path)
        return path

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, int]) -> None:
        super()._save_checkpoint_with_step(runner, step, meta)
        if is_main_process():
            _write_last(runner, Path(str(self.last_ckpt)))
            self.file_backend.remove(str(Path(self.out_dir) / INTERRUPTED))
            self._remove_outdated()

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        super()._save_best_checkpoint(runner, metrics)
        if is_main_process():
            self._remove_outdated()

    def _remove_outdated(self) -> None:
        best = [getattr(self, "best_ckpt_path", None), *getattr(self, "best_ckpt_path_dict", {}).values()]
        self.file_backend.remove_outdated({Path(path) for path in (self.last_ckpt, *best) if path})


def _write_last(runner: Runner, checkpoint: Path) -> None:
    with atomic_file(Path(runner.work_dir) / LAST_CHECKPOINT) as unfinished:
        unfinished.write_text(str(checkpoint), encoding="utf-8")
