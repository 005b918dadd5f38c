# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
from pathlib import Path

import pytest
import torch

from bench import end_to_end
from bench.workloads import WORKLOADS


def test_measures_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "charades-clip-slowfast"
    small = dataclasses.replace(WORKLOADS[name], videos=2, queries=3, video_dims=18)
    small = dataclasses.replace(small, changes={"video_dims": 18})
    monkeypatch.setitem(end_to_end.WORKLOADS, name, small)
    monkeypatch.setattr(
        "sys.argv", ["end_to_end", "--workload", name, "--repeat", "3", "--json", str(tmp_path / "x.json")]
    )
    end_to_end.main()
    result = json.loads((tmp_path / "x.json").read_text())
    assert (result["workload"], result["device"], result["threads"]) == (name, "cpu", torch.get_num_threads())
    assert len(result["train_step_s_all"]) == len(result["inference_s_all"]) == 3
    assert result["train_step_s"] == sorted(result["train_step_s_all"])[1]
    assert result["gemm_share"] == pytest.approx(result["flops"] / result["train_step_s"] / result["gemm_rate_flops_s"])
    assert f"{result['train_step_s']:.3f} s" in capsys.readouterr().out


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["end_to_end", "--device", "cuda"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="2"):
        end_to_end.main()
    assert "--device cuda: PyTorch sees no GPU" in capsys.readouterr().err
