# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Training by epochs that can be resumed anywhere."""

from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from mesm_plugin.registry import LOOPS


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """MMEngine's loop over epochs, which goes on in the middle of an epoch and repeats a validation that was cut off.

    The batches of the epoch that are done are loaded once more and skipped, in the order of the sampler, which has to
    depend on its seed and the epoch alone. A checkpoint that was saved at the end of an epoch tells nothing about the
    validation after it, so that is repeated.

    Args: See `mmengine.runner.EpochBasedTrainLoop`.
    """

    def run(self) -> nn.Module:
        """Trains until the last epoch."""
        self.runner.call_hook("before_train")
        if self._iter > 0 and self._done == 0:
            self._validate()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            self._validate()
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_epoch(self) -> None:
        """Trains on the batches of an epoch that are left."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        done = self._done
        for index, batch in enumerate(self.dataloader):
            if index >= done:
                self.run_iter(index, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    @property
    def _done(self) -> int:
        """Batches of the present epoch that are done."""
        return self._iter - self._epoch * len(self.dataloader)

    def _validate(self) -> None:
        due = self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs
        if self.runner.val_loop is not None and self._epoch >= self.val_begin and due:
            self.runner.val_loop.run()
