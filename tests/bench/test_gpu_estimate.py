# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
from pathlib import Path

import pytest
import torch

from bench import gpu_estimate
from bench.gpu_estimate import Cost, cost_of
from bench.gpus import GPUS
from bench.workloads import WORKLOADS


def test_a_product_by_hand() -> None:
    a, b = torch.randn(2, 8, 8)
    cost = cost_of(lambda: (a @ b.T).view(64).relu())
    # Transposing and reshaping launch nothing.
    assert cost == Cost(flops=2 * 8**3, bytes=4 * (3 * 64 + 2 * 64), launches=2)


def test_expanded_tensors_are_read_once() -> None:
    row = torch.randn(8)
    assert cost_of(lambda: row.expand(100, 8) * 2.0).bytes == 4 * (8 + 800)


def test_slowest_resource_and_launches() -> None:
    gpu = GPUS["sm_80"]
    assert Cost(0, round(gpu.bandwidth), 0).seconds(gpu) == pytest.approx(1)
    assert Cost(round(2 * gpu.flops["fp32"]), round(gpu.bandwidth), 0).seconds(gpu) == pytest.approx(2)
    assert Cost(0, 0, 1000).seconds(gpu, launch_seconds=1e-3) == pytest.approx(1)


def test_writes_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    name = "charades-clip-slowfast"
    small = {"video_dims": 18, "dims": 32, "heads": 4, "ffn_dims": 48}
    workload = dataclasses.replace(WORKLOADS[name], videos=2, queries=3, video_dims=18, changes=small)
    monkeypatch.setitem(gpu_estimate.WORKLOADS, name, workload)
    assert gpu_estimate.main(["--workload", name, "--json", str(tmp_path / "x.json")]) == 0
    step, inference = json.loads((tmp_path / "x.json").read_text())
    assert (step["what"], inference["what"]) == ("training step", "inference")
    assert step["launches"] > 2 * inference["launches"]
    assert step["flops"] > 2 * inference["flops"]
    assert set(step["estimated_seconds"]) == {gpu.name for gpu in GPUS.values()}
    assert "nothing was run on a GPU" in capsys.readouterr().out
