# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm train`, `mesm train --resume` and `mesm test` on a tiny run."""

import json
import re
import runpy
import shutil
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest
import torch

import mesm_plugin
from mesm_plugin.engine.config_loading import shipped_configs
from mesm_plugin.engine.safe_load import allow_checkpoint_classes


def test_training_ends_with_scores_and_picture(trained):
    output = trained.output
    assert (output.code, output.err) == (0, "")
    assert len(re.findall(r"^R1@0\.5 \d+\.\d$", output.out, re.MULTILINE)) == 1
    assert {"R1@0.3", "R1@0.5", "R1@0.7", "mIoU", "mAP@0.5", "mAP@0.75", "mAP"} == output.scores.keys()
    assert "Scores on the TEST split (SyntheticDataset, split 'test', 3 videos)" in output.out
    assert f"of {trained.best}, chosen as the best on the validation split:" in output.out
    assert output.out.endswith(f"Plot of predictions: {trained.work_dir / 'predictions.png'}\n")
    assert (trained.work_dir / "predictions.png").read_bytes().startswith(b"\x89PNG")


def test_training_shows_progress_and_no_warning(trained):
    assert re.search(r"Epoch\(train\) \[2\]\[2/2\].* eta: \d", trained.output.out)
    assert "WARNING" not in trained.output.out


def test_seed_is_that_of_the_command_line(trained):
    assert "randomness = dict(seed=1)" in (trained.work_dir / "mesm_synthetic.py").read_text()


def test_scores_are_those_of_the_best_checkpoint(trained, command, small, tmp_path):
    submission = tmp_path / "out" / "submission.jsonl"
    arguments = ["--work-dir", tmp_path / "test", "--out", submission, "--cfg-options", *small]
    output = command("test", "mesm_synthetic", trained.best, *arguments)
    assert (output.code, output.err) == (0, "")
    assert output.scores == trained.output.scores
    assert f"of {trained.best}:" in output.out
    metrics = submission.with_name("submission_metrics.json")
    assert output.out.endswith(f"Submission: {submission}\nMetrics: {metrics}\n")
    written = json.loads(metrics.read_text())
    assert written["checkpoint"] == str(trained.best)
    assert {name: round(written["metrics"][name], 1) for name in output.scores} == output.scores
    records = [json.loads(line) for line in submission.read_text().splitlines()]
    assert [record["qid"] for record in records] == list(range(len(records)))
    assert records[0]["vid"] == "synthetic_test_00000"
    assert (tmp_path / "test" / "predictions.png").exists()


@pytest.mark.parametrize("by_name", [False, True])
def test_resume(trained, command, small, tmp_path, by_name):
    work_dir = tmp_path / "run"
    shutil.copytree(trained.work_dir, work_dir)
    (work_dir / "last_checkpoint").write_text(str(work_dir / "epoch_2.pth"))
    resume = ["--resume", work_dir / "epoch_2.pth"] if by_name else ["--resume"]
    arguments = [*resume, "--work-dir", work_dir, "--seed", 1, "--cfg-options", *small, "train_cfg.max_epochs=3"]
    output = command("train", "mesm_synthetic", *arguments)
    assert (output.code, output.err) == (0, "")
    assert "resumed epoch: 2, iter: 4" in output.out
    assert "Epoch(train) [3][2/2]" in output.out
    assert "Epoch(train) [2]" not in output.out
    assert "R1@0.5" in output.scores
    assert trained.best.exists()
    assert re.search(rf"of {work_dir}/best_mAP_epoch_\d.pth, chosen as the best", output.out)
    allow_checkpoint_classes()
    checkpoint = torch.load(work_dir / "epoch_3.pth", weights_only=True)
    assert (checkpoint["meta"]["epoch"], checkpoint["meta"]["iter"]) == (3, 6)
    moments = checkpoint["optimizer"]["state"]
    assert {int(state["step"]) for state in moments.values()} == {6}
    losses, _ = checkpoint["message_hub"]["log_scalars"]["train/loss"].data
    assert len(losses) == 6


def test_resume_without_a_checkpoint_and_without_choice_of_the_best(command, small, tmp_path):
    options = [*small, "default_hooks.checkpoint.save_best=None", "train_cfg.max_epochs=1"]
    output = command("train", "mesm_synthetic", "--resume", "--work-dir", tmp_path, "--cfg-options", *options)
    assert output.code == 0
    assert f"There is no checkpoint to resume in {tmp_path}; training starts from scratch." in output.out
    assert f"of {tmp_path / 'epoch_1.pth'}:" in output.out


def test_default_work_dir_and_choice_on_the_test_split(command, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    on_test = ["val_dataloader.dataset.split=test", "train_cfg.max_epochs=1"]
    output = command("train", "mesm_synthetic", "--cfg-options", *small, *on_test)
    assert re.search(
        r"of work_dirs/mesm_synthetic/best_\S+\.pth, chosen as the best on this test split itself:", output.out
    )
    assert "Plot of predictions: work_dirs/mesm_synthetic/predictions.png" in output.out


def test_without_a_test_split_the_validation_split_is_scored(command, small, tmp_path):
    without = [*small, "train_cfg.max_epochs=1", "test_dataloader=None", "test_cfg=None", "test_evaluator=None"]
    without = [option for option in without if not option.startswith("test_dataloader.")]
    output = command("train", "mesm_synthetic", "--work-dir", tmp_path, "--cfg-options", *without)
    assert (output.code, output.err) == (0, "")
    assert "Scores on the VALIDATION split (SyntheticDataset, split 'val', 3 videos)" in output.out
    assert "chosen as the best on this validation split itself:" in output.out
    assert "R1@0.5" in output.scores


@pytest.fixture
def launched(monkeypatch):
    """What a launcher sets in the environment of the only process it starts."""
    # With port 0 the store takes one that is free.
    environment = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "localhost", "MASTER_PORT": 0}
    # MMEngine sets these, with a warning, where they are not set.
    environment.update(OMP_NUM_THREADS=1, MKL_NUM_THREADS=1)
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    yield
    assert not torch.distributed.is_initialized()


@pytest.mark.skipif(torch.cuda.is_available(), reason="tests the launch where there is no GPU")
def test_launcher_without_a_gpu(launched, command, small, tmp_path):
    arguments = ["--launcher", "pytorch", "--work-dir", tmp_path, "--local-rank", 0]
    output = command("train", "mesm_synthetic", *arguments, "--cfg-options", *small, "train_cfg.max_epochs=1")
    assert output.code == 0
    assert "Distributed training: True" in output.out
    assert "R1@0.5" in output.scores


def test_every_config_has_a_name_of_its_own():
    # openmim takes the only file of that name in the whole package.
    folders = [import_module("mesm_plugin" + part).__path__[0] for part in ("", ".configs", ".kernels", ".registry")]
    files = {path.resolve() for folder in folders for path in Path(folder).rglob("*.py")}
    counts = Counter(path.name for path in files)
    assert len(shipped_configs()) > 1
    assert {counts[f"{name}.py"] for name in shipped_configs()} == {1}


@pytest.mark.parametrize("name", ["train", "test"])
def test_scripts_for_mim_are_the_same_commands(name, monkeypatch, capsys):
    script = Path(mesm_plugin.__file__).parent / "tools" / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(script), "-h"])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(script), run_name="__main__")
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert f"mesm {name}" in out
    # openmim adds flags of its own where the help mentions this one.
    assert "--gpus" not in out


def test_choice_on_the_test_split_is_told_whatever_the_configs_say(command, small, tmp_path):
    # The same videos, though the two data sets are not configured by the same keys.
    options = [*small, "val_dataloader.dataset.split=test", "val_dataloader.dataset.strict=False"]
    output = command("train", "mesm_synthetic", "--work-dir", tmp_path, "--cfg-options", *options)
    assert (output.code, output.err) == (0, "")
    assert "chosen as the best on this test split itself" in output.out


BROKEN = {
    "no meta": lambda content: content.pop("meta"),
    "no epoch": lambda content: content["meta"].pop("epoch"),
    "epoch of another type": lambda content: content["meta"].update(epoch="two"),
    "no optimizer": lambda content: content.pop("optimizer"),
    "optimizer of another type": lambda content: content.update(optimizer=[1]),
    "no parameter groups": lambda content: content["optimizer"].pop("param_groups"),
    "other parameters": lambda content: content["optimizer"]["param_groups"][0].update(params=[0]),
    "schedules of another type": lambda content: content.update(param_schedulers=3),
    "message hub of another type": lambda content: content.update(message_hub=7),
    "random states of another type": lambda content: content.update(random_states="x"),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_resume_from_a_broken_state_names_the_checkpoint(trained, command, small, tmp_path, damage):
    allow_checkpoint_classes()
    content = torch.load(trained.work_dir / "epoch_2.pth")
    BROKEN[damage](content)
    torch.save(content, tmp_path / "broken.pth")
    options = ["--work-dir", tmp_path, "--seed", 1, "--cfg-options", *small, "train_cfg.max_epochs=3"]
    output = command("train", "mesm_synthetic", "--resume", tmp_path / "broken.pth", *options)
    assert output.code == 2
    assert f"checkpoint {tmp_path / 'broken.pth'}" in output.err
    assert not list(tmp_path.glob("epoch_*.pth"))
