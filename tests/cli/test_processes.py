# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm train --nproc`."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mesm_plugin.cli import processes
from tests.cli.conftest import SMALL, mesm

ROOT = Path(__file__).parents[2]
DYING = """
import os
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class DyingHook(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if get_rank() == 1 and runner.iter == 1:
            os._exit(3)
"""


def start(work_dir, *arguments):
    command = [sys.executable, "-m", "mesm_plugin.cli.main", "train", *map(str, arguments), "--work-dir", str(work_dir)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{work_dir}"}
    begin = time.monotonic()
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    return run.returncode, run.stdout + run.stderr, time.monotonic() - begin


def test_two_processes_train_and_resume(tmp_path):
    # Without this loss the saliency head, which no other loss needs, has no gradients.
    small = [*SMALL, "model.saliency_losses=[]"]
    code, text, _ = start(tmp_path, "mesm_synthetic", "--launcher", "pytorch", "--nproc", 2, "--cfg-options", *small)
    assert code == 0, text[-3000:]
    (record,) = tmp_path.glob("*/run.json")
    assert json.loads(record.read_text())["processes"] == 2
    checkpoint = torch.load(tmp_path / "epoch_2.pth", weights_only=False)
    states = [state["torch"] for state in checkpoint["random_states"]]
    assert len(states) == 2
    assert not torch.equal(*states)
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"].keys() >= {"R1@0.5", "mAP"}
    options = [*small, "train_cfg.max_epochs=3"]
    code, text, _ = start(tmp_path, "mesm_synthetic", "--nproc=2", "--resume", "--cfg-options", *options)
    assert code == 0, text[-3000:]
    assert "resumed epoch: 2" in text
    assert (tmp_path / "epoch_3.pth").is_file()


def test_a_process_that_dies_ends_the_others(tmp_path):
    (tmp_path / "dying_hook.py").write_text(DYING)
    (tmp_path / "mine.py").write_text(
        f'_base_ = "{ROOT}/configs/mesm/mesm_synthetic.py"\n'
        'custom_imports = dict(imports=["mesm_plugin", "dying_hook"])\n'
        'custom_hooks = [dict(type="DyingHook")]\n'
    )
    code, text, seconds = start(tmp_path, tmp_path / "mine.py", "--nproc", 2, "--cfg-options", *SMALL)
    assert code != 0
    assert "exitcode  : 3" in text
    assert seconds < 90
    assert not (tmp_path / "metrics.json").exists()


def test_sigterm_reaches_all_processes(tmp_path):
    command = [sys.executable, "-m", "mesm_plugin.cli.main", "train", "mesm_synthetic", "--nproc", "2"]
    options = ["--work-dir", str(tmp_path), "--cfg-options", *SMALL, "train_cfg.max_epochs=400"]
    with (tmp_path / "output.txt").open("w") as output:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen([*command, *options], env=environment, stdout=output, stderr=output)
        begin = time.monotonic()
        while not (tmp_path / "last_checkpoint").exists() and time.monotonic() - begin < 120:
            time.sleep(0.1)
        process.terminate()
        assert process.wait(60) == 143
    # By now all of them have ended.
    text = (tmp_path / "output.txt").read_text()
    assert text.count("interrupted.pth, from which --resume goes on") == 2, text[-3000:]
    assert (tmp_path / "interrupted.pth").is_file()


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ("train a.py --nproc 3", "train --launcher pytorch a.py"),
        ("test --nproc=3 a.py b.pth", "test --launcher pytorch a.py b.pth"),
        ("train a.py --cfg-options x=1 --nproc 3", "train --launcher pytorch a.py --cfg-options x=1"),
    ],
)
def test_arguments_of_the_processes(monkeypatch, given, passed):
    started = []

    class Process:
        def __init__(self, command):
            started.append(command)

        def wait(self):
            return 0

    monkeypatch.setattr(processes.subprocess, "Popen", Process)
    assert processes.run_in_processes(given.split(), 3) == 0
    assert started[0][3:5] == ["--standalone", "--nproc-per-node=3"]
    assert started[0][7:] == passed.split()


def test_wrong_number():
    output = mesm("train", "mesm_synthetic", "--nproc", 0)
    assert (output.code, "--nproc is 0, expected at least 1" in output.err) == (2, True)
