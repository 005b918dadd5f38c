# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Training that is told to stop goes on where it was, bit for bit."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import HOOKS, DefaultScope
from mmengine.visualization import Visualizer

from bench.process_group import in_process_group
from mesm_plugin.cli.main import main
from mesm_plugin.engine.config_loading import read_config
from mesm_plugin.engine.hooks import AtomicCheckpointHook, InterruptionHook
from mesm_plugin.engine.hooks.interruption_hook import Interrupted
from mesm_plugin.engine.train_and_test import train
from tests.engine.kill_trial import OPTIONS, losses, weights

STEPS_OF_AN_EPOCH = 6


@HOOKS.register_module()
class SignalHook(Hook):
    """Sends a signal to the process in a step of training, or of the validation after an epoch."""

    def __init__(self, number, step=None, validation=None):
        self.number, self.step, self.validation = number, step, validation

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.step:
            os.kill(os.getpid(), self.number)

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if runner.epoch == self.validation:
            os.kill(os.getpid(), self.number)


def config_of(work_dir, *options, hook=None, resume=False):
    for kind in (DefaultScope, MessageHub, MMLogger, Visualizer):
        kind._instance_dict.clear()
    config = read_config("mesm_synthetic", [*OPTIONS, *options, f"work_dir={work_dir}"])
    config.custom_hooks += [hook] if hook else []
    config.resume = resume
    return config


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("alone")
    train(config_of(work_dir))
    return work_dir


def assert_same_losses(work_dir, alone, epochs):
    expected, found = losses(alone), losses(work_dir)
    assert found.keys() == set(range(1, epochs * STEPS_OF_AN_EPOCH + 1)) <= expected.keys()
    for step, logged in found.items():
        assert logged == expected[step]


def assert_same(work_dir, alone):
    assert_same_losses(work_dir, alone, epochs=5)
    expected = weights(alone)
    for name, value in weights(work_dir).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize(
    ("number", "when", "done"),
    [
        (signal.SIGTERM, {"step": 8}, 9),
        (signal.SIGTERM, {"step": 2 * STEPS_OF_AN_EPOCH - 1}, 2 * STEPS_OF_AN_EPOCH),
        (signal.SIGINT, {"validation": 3}, 3 * STEPS_OF_AN_EPOCH),
    ],
    ids=["middle of an epoch", "last step of an epoch", "validation"],
)
def test_a_stopped_run_goes_on(alone, tmp_path, number, when, done):
    handler = signal.getsignal(number)
    with pytest.raises(Interrupted, match=rf"stopped by {number.name}; saved .*interrupted.pth") as error:
        train(config_of(tmp_path, hook={"type": "SignalHook", "number": int(number), **when}))
    assert error.value.signal == number
    assert signal.getsignal(number) == handler
    saved = torch.load(tmp_path / "interrupted.pth", weights_only=False)
    assert saved["meta"]["iter"] == done
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / "interrupted.pth")
    train(config_of(tmp_path, resume=True))
    assert_same(tmp_path, alone)
    assert not (tmp_path / "interrupted.pth").exists()


@pytest.mark.parametrize(("workers", "persistent"), [(1, True), (2, False)])
def test_the_number_of_workers_changes_nothing(alone, tmp_path, workers, persistent):
    options = [
        f"{split}_dataloader.{key}={value}"
        for split in ("train", "val")
        for key, value in (("num_workers", workers), ("persistent_workers", persistent))
    ]
    train(config_of(tmp_path, *options, "train_cfg.max_epochs=2"))
    assert_same_losses(tmp_path, alone, epochs=2)


def test_other_batches_begin_the_epoch_anew(tmp_path):
    with pytest.raises(Interrupted):
        train(config_of(tmp_path, hook={"type": "SignalHook", "number": int(signal.SIGTERM), "step": 8}))
    train(config_of(tmp_path, "train_dataloader.batch_size=4", "train_cfg.max_epochs=2", resume=True))
    # 9 steps of 6 an epoch; then the second epoch again, with the steps 4 to 6 of 3 an epoch.
    assert {step: len(logged) for step, logged in losses(tmp_path).items()} == {
        step: 2 if step in (4, 5, 6) else 1 for step in range(1, 10)
    }


def test_the_command_tells_how_to_go_on(tmp_path, capsys, monkeypatch):
    def stopped(config):
        raise Interrupted(signal.SIGTERM, "stopped by SIGTERM; saved interrupted.pth, from which --resume goes on")

    monkeypatch.setattr("mesm_plugin.engine.train_and_test.train", stopped)
    assert main(["train", "mesm_synthetic", "--work-dir", str(tmp_path)]) == 128 + signal.SIGTERM
    assert "saved interrupted.pth, from which --resume goes on" in capsys.readouterr().err


class SlowSaver(AtomicCheckpointHook):
    """Writes for a second, in the first process."""

    def save_interrupted(self, runner, position):
        if get_rank() == 0:
            time.sleep(1)
            Path(runner.work_dir, "written").touch()
        return Path(runner.work_dir, "written")


def stop_all(rank, folder):
    hook = InterruptionHook()
    runner = SimpleNamespace(hooks=[SlowSaver()], work_dir=folder, epoch=0, iter=0, model=torch.nn.Linear(1, 1))
    hook._signal = signal.SIGTERM if rank == 1 else 0
    with pytest.raises(Interrupted):
        hook.after_train_iter(runner, 0)
    assert Path(folder, "written").exists()


def test_no_process_ends_before_the_checkpoint_is_written(tmp_path):
    in_process_group(stop_all, 2, str(tmp_path))
