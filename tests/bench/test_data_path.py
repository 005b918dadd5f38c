# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.data_path import Measured, main, report

ROW = Measured(
    channels=(512, 2304),
    feature_bytes=2**30,
    videos=5336,
    workers=2,
    start_s=1.25,
    start_read_bytes=2**20,
    imports_resident=200 * 2**20,
    start_resident=220 * 2**20,
    batches=443,
    batches_s=50.0,
    resident=300 * 2**20,
    proportional=400 * 2**20,
    private=350 * 2**20,
)


def test_the_table_compares_with_steps() -> None:
    head, row = report([ROW], None).splitlines()
    assert row.split()[:4] == ["512+2304", "1024", "MB", "2"]
    assert "what steps need" not in head
    (row,) = report([ROW], 0.1).splitlines()[1:]
    assert row.endswith("5.0 x 10.0/s")
    (row,) = report([replace(ROW, batches_s=5.0)], 0.1).splitlines()[1:]
    assert row.endswith("0.5 x 10.0/s")


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = tmp_path / "x.json"
    arguments = ["--videos", "40", "--channels", "4+3", "--workers", "1", "--folder", str(tmp_path)]
    assert main([*arguments, "--json", str(result)]) == 0
    (row,) = json.loads(result.read_text())["results"]
    assert (row["channels"], row["videos"], row["workers"], row["batches"]) == ([4, 3], 40, 1, 2)
    assert row["batches_s"] > 0
    assert row["start_s"] > 0
    # The worker has pages of its own, and others that are the main process's.
    assert 0 < row["private"] < row["proportional"] < 2 * row["resident"]
    assert "4+3" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--videos", "3"], "--videos must be at least 36, got 3"),
        (["--videos", "40", "--clips", "5", "4"], "the fewest first, got 5 4"),
        (["--videos", "40", "--workers", "-1"], "--workers must be at least 0, got -1"),
        (["--videos", "40", "--batches", "2"], "--batches must be at least 3, got 2"),
        (["--videos", "40", "--step-seconds", "0"], "--step-seconds must be above 0, got 0"),
        (["--videos", "40", "--channels", "0+3"], "--channels: invalid"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err
