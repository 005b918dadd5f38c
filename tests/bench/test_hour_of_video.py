# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
from pathlib import Path

import pytest

from bench import hour_of_video
from bench.workloads import WORKLOADS

ARGUMENTS = ["--clips", "20", "--queries", "7", "--max-pair-clips", "60"]


@pytest.fixture(autouse=True)
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "charades-vgg-glove"
    small = dataclasses.replace(WORKLOADS[name], video_dims=18, changes={"video_dims": 18})
    monkeypatch.setitem(hour_of_video.WORKLOADS, name, small)


def test_the_video_is_projected_once(tmp_path: Path) -> None:
    assert hour_of_video.main([*ARGUMENTS, "--limit-gib", "64", "--json", str(tmp_path / "x.json")]) == 0
    result = json.loads((tmp_path / "x.json").read_text())
    assert (result["clips"], result["queries"], result["max_pair_clips"]) == (20, 7, 60)
    assert result["video_projections"] == 1
    assert 0.05 < result["peak_rss_gib"] < 64


def test_more_than_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    assert hour_of_video.main([*ARGUMENTS, "--limit-gib", "0.01"]) == 1
    assert "more than the limit of 0.01 GiB" in capsys.readouterr().err
