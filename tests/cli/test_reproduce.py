# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm reproduce` on tiny simulated features."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from mesm_plugin.cli import reproduce_run
from tests.simulated_features import write_simulated

TINY = ["model.dims=16", "model.heads=2", "model.ffn_dims=16", "train_dataloader.batch_size=3"]
FULL = "mesm_charades_clip_slowfast_paper_protocol-seed2019"
TWO = "mesm_charades_clip_slowfast_2_ss_layers-seed2019"


@pytest.fixture(scope="session")
def features(tmp_path_factory) -> Path:
    """Tiny simulated features of three data sets."""
    return write_simulated(tmp_path_factory.mktemp("features") / "sims")


@pytest.fixture(scope="session")
def reproduce(command, features):
    """Runs the command with tiny models in this process; returns the output and the runs that were made."""

    def run(table: str, work_dir: Path, *arguments, epochs=1, own_process=False, fail=()):
        ran = []

        def run_here(folder: Path, name: str) -> None:
            ran.append(folder.name)
            (folder / "failure.json").unlink(missing_ok=True)
            for kind in (DefaultScope, MessageHub, MMLogger, Visualizer):
                kind._instance_dict.clear()
            if name in fail:
                (folder / "failure.json").write_text(json.dumps({"error": "out of memory"}))
            else:
                reproduce_run.run_here(folder, name)

        options = ["--work-dir", work_dir, "--features", features, "--epochs", epochs, "--cfg-options", *TINY]
        with pytest.MonkeyPatch.context() as patch:
            if not own_process:
                patch.setattr(reproduce_run, "run_in_process", run_here)
            output = command("reproduce", table, *arguments, *options)
        return output, ran

    return run


@pytest.fixture(scope="session")
def finished(reproduce, tmp_path_factory) -> Path:
    """The work directory with two rows of Table 7."""
    work_dir = tmp_path_factory.mktemp("reproduce")
    output, ran = reproduce("table7", work_dir, "--rows", "2", "4")
    assert (output.code, output.err) == (0, "")
    assert ran == [TWO, FULL]
    return work_dir


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "reproduce"))


def rows_of(work_dir: Path, table: str) -> dict[str, dict]:
    return {row["row"]: row for row in json.loads((work_dir / f"{table}.json").read_text())["rows"]}


def test_table_beside_the_paper(finished):
    rows = rows_of(finished, "table7")
    assert list(rows) == ["2_layers", "3_layers", "4_layers", "5_layers", "6_layers"]
    row = rows["2_layers"]
    metrics = row["runs"][0]["metrics"]
    assert row["paper"]["R1@0.5"] == 57.10
    assert row["ours"] == {name: metrics[name] for name in ("R1@0.5", "R1@0.7", "mIoU", "mAP")}
    assert row["difference"]["mIoU"] == round(metrics["mIoU"] - 49.75, 2)
    assert rows["3_layers"]["ours"] == dict.fromkeys(row["ours"])
    text = (finished / "table7.md").read_text()
    assert "# Table 7: Layers of SS-MESM, on Charades-STA (C+SF, C), on SIMULATED features" in text
    assert "| 3 layers | 59.38 / - / - |" in text
    assert "Epochs: 1. Seeds: 2019." in text


def test_finished_rows_are_kept_also_across_tables(reproduce, copied):
    output, ran = reproduce("Table 7", copied, "--rows", "2", "4")
    assert (output.code, ran) == (0, [])
    assert output.out.count("(finished before)") == 2
    # The full model is the last row of Table 5, too.
    output, ran = reproduce("5", copied, "--rows", "FW_SS_enc")
    assert (output.code, ran) == (0, [])
    assert rows_of(copied, "table5")["fw_ss_enc"]["ours"] == rows_of(copied, "table7")["4_layers"]["ours"]


def test_an_interrupted_row_goes_on_from_its_checkpoint(reproduce, copied):
    folder = copied / "runs" / TWO
    before = json.loads((folder / "result.json").read_text())
    (folder / "result.json").unlink()
    assert (folder / "last_checkpoint").is_file()
    output, ran = reproduce("table7", copied, "--rows", "2", "4")
    assert (output.code, ran) == (0, [TWO])
    # Nothing was left to train, so the same checkpoint is scored again.
    assert json.loads((folder / "result.json").read_text()) == before


def test_a_failed_row_is_listed_and_tried_again(reproduce, tmp_path):
    name = TWO.removesuffix("-seed2019")
    output, ran = reproduce("table7", tmp_path / "w", "--rows", "2", fail=[name])
    assert (output.code, ran) == (1, [TWO])
    assert "2 layers, seed 2019: failed: out of memory" in output.out
    assert "## Failed\n\n- 2_layers, seed 2019: out of memory" in (tmp_path / "w" / "table7.md").read_text()
    output, ran = reproduce("table7", tmp_path / "w", "--rows", "2")
    assert (output.code, ran) == (0, [TWO])
    assert "Failed" not in (tmp_path / "w" / "table7.md").read_text()


def test_other_settings_are_refused(reproduce, copied):
    output, ran = reproduce("table7", copied, "--rows", "2", epochs=2)
    assert (output.code, ran) == (2, [])
    assert "this run was begun with other settings, in which train_cfg.max_epochs is 1, and here 2" in output.err


def test_a_folder_of_something_else_is_refused(reproduce, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    output, ran = reproduce("table7", tmp_path)
    assert (output.code, ran) == (2, [])
    assert f"--work-dir {tmp_path} holds other files and no reproduction.json" in output.err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_listing_writes_nothing(reproduce, tmp_path):
    output, ran = reproduce("table1", tmp_path / "w", "--list")
    assert (output.code, ran) == (0, [])
    assert (
        "mesm_clip_slowfast         mesm_charades_clip_slowfast_paper_protocol, seed 2019, 1 epochs: to run"
        in output.out
    )
    assert not (tmp_path / "w").exists()


def test_each_split_of_charades_cg_has_its_checkpoint(reproduce, tmp_path):
    output, _ = reproduce("table4", tmp_path / "w", "--rows", "moment")
    assert (output.code, output.err) == (0, "")
    run = rows_of(tmp_path / "w", "table4")["moment_detr_clip_slowfast"]["runs"][0]
    assert run["checkpoints"] == {
        split: f"best_{split}_mIoU_epoch_1.pth" for split in ("novel_composition", "novel_word")
    }
    assert {name.split("/")[0] for name in run["metrics"]} == {"novel_composition", "novel_word"}


def test_qvhighlights_gives_a_submission(reproduce, tmp_path):
    output, _ = reproduce("table3", tmp_path / "w", "--rows", "QD-DETR")
    assert (output.code, output.err) == (0, "")
    row = rows_of(tmp_path / "w", "table3")["qd_detr_clip_slowfast"]
    assert row["ours"]["mAP"] is not None
    with zipfile.ZipFile(Path(row["runs"][0]["folder"]) / row["runs"][0]["submission"]) as archive:
        counts = {name: len(archive.read(name).splitlines()) for name in archive.namelist()}
    assert counts == {"hl_val_submission.jsonl": 2, "hl_test_submission.jsonl": 2}
    assert "R1@0.5: paper (test) / SIMULATED (val) / difference" in output.out


def test_what_is_missing_is_named_before_anything_is_trained(command, tmp_path):
    (tmp_path / "data").mkdir()
    output = command("reproduce", "table2", "--features", tmp_path / "data", "--work-dir", tmp_path / "w")
    assert output.code == 1
    assert f"{tmp_path / 'data' / 'tacos' / 'c3d.hdf5'} is missing" in output.out
    assert "## Not run" in (tmp_path / "w" / "table2.md").read_text()
    assert not (tmp_path / "w" / "runs").exists()


def test_empty_variable_names_no_folder(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESM_DATA", "")
    (tmp_path / "data").mkdir()
    output = command("reproduce", "table2", "--list")
    assert output.code == 1
    assert f"{tmp_path / 'data' / 'tacos' / 'c3d.hdf5'} is missing" in output.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table9"], "there is no table 'table9'; known are table1, table2"),
        (
            ["table1", "--rows", "mesm_vgg_glov1"],
            "--rows mesm_vgg_glov1: table1 has no such row; did you mean 'mesm_vgg",
        ),
        (["table1", "--epochs", "0"], "--epochs is 0, expected at least 1"),
        (["table1", "--seeds", "1", "1"], "--seeds 1 1 names a seed twice"),
        (["table1", "--features", "nowhere"], "--features nowhere: there is no such folder"),
        (["table7", "--cfg-options", "model.dimz=3"], "row 2_layers: "),
    ],
)
def test_bad_input(command, features, tmp_path, arguments, message):
    given = [] if "--features" in arguments else ["--features", features]
    output = command("reproduce", *arguments, *given, "--work-dir", tmp_path / "w")
    assert output.code == 2
    assert message in output.err
    assert not (tmp_path / "w").exists()
