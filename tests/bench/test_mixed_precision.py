# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest
import torch

from bench import mixed_precision
from mesm_plugin.engine.config_loading import read_config
from mesm_plugin.engine.run_comparison import Run
from tests.cli.conftest import SMALL

# mAP of a seed.
FLOAT32 = {0: 70.0, 1: 74.0, 2: 72.0}


def run_of(seed: int, **scores: float | None) -> Run:
    return Run(f"run{seed}", scores, "test split", seed, {})


def runs_of(bfloat16: list[float | None]) -> dict[str, list[Run]]:
    return {
        "float32": [run_of(seed, mAP=value) for seed, value in FLOAT32.items()],
        "bfloat16": [run_of(seed, mAP=value) for seed, value in enumerate(bfloat16)],
    }


@pytest.mark.parametrize(
    ("bfloat16", "difference", "agrees"),
    [
        ([68.0, 68.0, 68.0], -4.0, True),
        ([76.0, 80.0, 72.0], 4.0, True),
        ([64.0, 66.0, 72.5], -4.5, False),
        ([76.5, 76.5, 76.5], 4.5, False),
    ],
)
def test_means_differ_by_no_more_than_the_spread(bfloat16: list[float], difference: float, agrees: bool) -> None:
    comparison = mixed_precision.compare("mAP", runs_of([*bfloat16]))
    assert comparison == mixed_precision.Comparison([70.0, 74.0, 72.0], bfloat16, difference, 4.0, agrees)


def test_scores_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match="mAP is not finite in each run, .*None"):
        mixed_precision.compare("mAP", runs_of([70.0, None, 70.0]))


@pytest.mark.parametrize(
    ("miou", "code", "cells"),
    [
        (51.0, 0, "51.00 (51.00 to 51.00) | +0.50 | 1.00 | yes |"),
        (52.0, 1, "52.00 (52.00 to 52.00) | +1.50 | 1.00 | NO |"),
    ],
)
def test_table_and_status(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    miou: float,
    code: int,
    cells: str,
) -> None:
    trained = []

    def train(config: str, precision: str, seed: int, epochs: int | None, device: str, work_dir: Path) -> Run:
        trained.append((config, precision, seed, epochs, device, work_dir.name))
        mean_iou = 50.0 + seed % 2 if precision == "float32" else miou
        return run_of(seed, mAP=FLOAT32[seed], mIoU=mean_iou, other=seed)

    monkeypatch.setattr(mixed_precision, "train", train)
    file = tmp_path / "out.json"
    arguments = ["--config", "x.py", "--seeds", "2", "1", "--epochs", "3", "--device", "cpu", "--json", str(file)]
    assert mixed_precision.main(arguments) == code
    names = [("float32", 2), ("bfloat16", 2), ("float32", 1), ("bfloat16", 1)]
    assert trained == [("x.py", name, seed, 3, "cpu", f"{name}-seed{seed}") for name, seed in names]
    output = capsys.readouterr().out
    assert "| mAP | 73.00 (72.00 to 74.00) | 73.00 (72.00 to 74.00) | +0.00 | 2.00 | yes |" in output
    assert f"| mIoU | 50.50 (50.00 to 51.00) | {cells}" in output
    content = json.loads(file.read_text())
    assert (content["seeds"], content["device"], list(content["scores"])) == ([2, 1], "cpu", ["mIoU", "mAP"])
    assert content["scores"]["mAP"]["spread"] == 2


@pytest.mark.parametrize("seeds", [["1"], ["1", "1"]])
def test_a_spread_needs_two_seeds(seeds: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        mixed_precision.main(["--seeds", *seeds])
    assert "--seeds must be two or more different ones" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        mixed_precision.main(["--device", "cuda"])
    assert "--device cuda, but PyTorch finds no GPU" in capsys.readouterr().err


def test_a_tiny_run(tmp_path: Path) -> None:
    config = tmp_path / "tiny.py"
    read_config("mesm_synthetic", SMALL).dump(config)
    run = mixed_precision.train(str(config), "bfloat16", 3, 1, "cpu", tmp_path / "run")
    assert run.seed == 3
    assert run.settings["optim_wrapper.dtype"] == "bfloat16"
    assert run.settings["train_cfg.max_epochs"] == 1
    assert all(0 <= (run.scores[name] or 0) <= 100 for name in ("R1@0.5", "R1@0.7", "mIoU", "mAP"))


def test_failure_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mesm train nowhere.py .* failed:\n.*nowhere.py"):
        mixed_precision.train("nowhere.py", "float32", 0, None, "cpu", tmp_path)
