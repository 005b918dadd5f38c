# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm compare` on work directories."""

import json

import pytest

from tests.cli.conftest import mesm


@pytest.fixture
def run_dir(tmp_path):
    """Writes what a finished run leaves."""

    def make(name, seed, score, lr=1e-4, data="test.json", **changes):
        folder = tmp_path / name
        (folder / "20260101_000000").mkdir(parents=True)
        settings = {"model": {"dims": 8}, "optim_wrapper": {"optimizer": {"lr": lr}}, "work_dir": name, **changes}
        (folder / "20260101_000000" / "run.json").write_text(json.dumps({"seed": seed, "settings": settings}))
        result = {"split": "test", "data": data, "metrics": {"R1@0.5": score, "mAP": None}}
        (folder / "metrics.json").write_text(json.dumps(result))
        return folder

    return make


def test_seeds_and_settings(run_dir, tmp_path):
    runs = [run_dir("a", 1, 50.0), run_dir("b", 2, 54.0), run_dir("c", 1, 60.0, lr=2e-4, extra=[{"x": 1}])]
    output = mesm("compare", *runs, "--json", tmp_path / "out.json")
    assert (output.code, output.err) == (0, "")
    first, second = output.out.splitlines()[1:3]
    assert first.split()[:-1] == [f"{runs[0]},", str(runs[1]), "1,", "2", "52.00", "±", "2.83"]
    assert second.split() == [str(runs[2]), "1", "60.00", "-"]
    assert "  optim_wrapper.optimizer.lr: 0.0001 | 0.0002\n" in output.out
    assert "  extra.0.x: - | 1\n" in output.out
    assert "Mean ± standard deviation over the runs of a row" in output.out
    assert "work_dir" not in output.out
    written = json.loads((tmp_path / "out.json").read_text())
    assert [row["scores"]["R1@0.5"] for row in written["runs"]] == [[50.0, 54.0], [60.0]]
    assert set(written["settings"]) == {"optim_wrapper.optimizer.lr", "extra.0.x"}


def test_other_data(run_dir):
    output = mesm("compare", run_dir("a", 1, 50.0), run_dir("b", 1, 50.0, data="val.json"))
    assert "cannot be compared" in output.out
    assert len(output.out.splitlines()[1].split("  ")) > 1


def test_a_real_run(trained):
    output = mesm("compare", trained.work_dir)
    assert output.code == 0, output.err
    assert f"{trained.output.scores['mIoU']:.1f}" in output.out or "mIoU" in output.out
    header, row = (line.split() for line in output.out.splitlines()[:2])
    assert round(float(row[header.index("mAP")]), 1) == trained.output.scores["mAP"]


def test_bad_input(run_dir, tmp_path):
    run = run_dir("a", 1, 50.0)
    (tmp_path / "empty").mkdir()
    cases = [
        ([tmp_path / "gone"], "gone is no work directory"),
        ([tmp_path / "empty"], "has no metrics.json, which `mesm train` writes at its end; is the run finished?"),
        ([run, run], "a run is named twice"),
        ([run, "--scores", "R1"], "no run has the score 'R1'; there are R1@0.5, mAP"),
    ]
    for arguments, problem in cases:
        output = mesm("compare", *arguments)
        assert output.code == 2
        assert problem in output.err
    scored = '{{"split": "test", "data": "x", "metrics": {{"mAP": {}}}}}'
    for text, problem in (
        ("{", "is not valid JSON"),
        ("[]", "expected a JSON object"),
        ('{"split": "test"}', "is not what"),
        (scored.format("1e999"), "a score is not finite"),
        (scored.format("9" * 400), "is not what"),
    ):
        (run / "metrics.json").write_text(text)
        output = mesm("compare", run)
        assert output.code == 2
        assert problem in output.err
