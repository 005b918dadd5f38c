# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm matrix`: a matrix of two by two on the tiny synthetic data set, trained once."""

import json
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from mesm_plugin.cli import matrix_cell

GROUNDERS = ["DETRGrounder", "moment_detr_charades_clip_slowfast"]
ALIGNERS = ["MESMAligner", "ConcatAligner"]
CELLS = [f"{grounder}-{aligner}-seed3" for grounder in ("DETRGrounder", "MomentDETR") for aligner in ALIGNERS]


@pytest.fixture(scope="session")
def matrix(command, small):
    """Runs the command for the tiny matrix with further arguments; returns the output and the cells that were run."""
    options = [option for option in small if not option.startswith("train_cfg.")]

    def run(work_dir: Path, *arguments, options=tuple(options), in_process=False):
        ran = []

        def run_here(folder: Path, name: str, train: bool) -> None:
            ran.append(folder.name)
            (folder / "failure.json").unlink(missing_ok=True)
            for kind in (DefaultScope, MessageHub, MMLogger, Visualizer):
                kind._instance_dict.clear()
            matrix_cell.run_cell(folder, name, train)

        fixed = ["--grounders", *GROUNDERS, "--aligners", *ALIGNERS, "--seeds", 3, "--epochs", 1]
        with pytest.MonkeyPatch.context() as patch:
            if not in_process:
                patch.setattr(matrix_cell, "run_in_process", run_here)
            output = command(
                "matrix", "mesm_synthetic", *fixed, *arguments, "--work-dir", work_dir, "--cfg-options", *options
            )
        return output, ran

    return run


@pytest.fixture(scope="session")
def finished(matrix, tmp_path_factory) -> Path:
    """The work directory of the finished matrix."""
    work_dir = tmp_path_factory.mktemp("matrix")
    output, ran = matrix(work_dir)
    assert (output.code, output.err) == (0, "")
    assert ran == CELLS
    return work_dir


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    """A copy of the finished matrix to change."""
    return Path(shutil.copytree(finished, tmp_path / "matrix"))


def cells_of(work_dir: Path) -> dict[str, dict]:
    return {cell["folder"]: cell for cell in json.loads((work_dir / "matrix.json").read_text())["cells"]}


def test_every_cell_has_scores_and_sizes(finished):
    cells = cells_of(finished)
    assert list(cells) == CELLS
    for cell in cells.values():
        assert {"R1@0.5", "R1@0.7", "mAP"} <= cell["metrics"].keys()
        assert all(value is None or 0 <= value <= 100 for value in cell["metrics"].values())
        assert cell["data"] == "test split (SyntheticDataset, split 'test', 3 videos)"
        assert cell["error"] is None
        assert 2 * cell["inference_flops"] < cell["training_flops"]
    own, swapped, other, concat = (cells[name] for name in CELLS)
    assert [cell["own_aligner"] for cell in (own, swapped, other, concat)] == [True, False, False, True]
    assert swapped["aligner_parameters"] == concat["aligner_parameters"] == 0
    # A column holds the same aligner, and a row differs by the aligner alone.
    assert own["aligner_parameters"] == other["aligner_parameters"] > 0
    assert own["parameters"] - own["aligner_parameters"] == swapped["parameters"]
    assert other["parameters"] - other["aligner_parameters"] == concat["parameters"]
    assert own["inference_flops"] > swapped["inference_flops"]


def test_table_says_how_it_was_produced(finished):
    text = (finished / "matrix.md").read_text()
    assert (
        "- Data: `mesm_synthetic`; the scores are of its test split (SyntheticDataset, split 'test', 3 videos)." in text
    )
    assert "DETRGrounder of `mesm_synthetic`, MomentDETR of `moment_detr_charades_clip_slowfast`." in text
    assert "- Epochs: 1.\n- Seed: 3.\n" in text
    assert "- Finished: 4 of 4 trainings." in text
    scores = cells_of(finished)[CELLS[1]]["metrics"]
    cell = " / ".join(f"{scores[name]:.1f}" for name in ("R1@0.5", "R1@0.7", "mAP"))
    row = next(line for line in text.splitlines() if line.startswith("| DETRGrounder | **"))
    assert row.endswith(f"** | {cell} |")
    assert not list(finished.glob(".*.tmp"))


def test_settings_are_those_of_the_grounder_and_its_aligner_is_replaced(finished):
    config = json.loads((finished / CELLS[2] / "cell.json").read_text())
    assert config["model"]["type"] == "MomentDETR"
    assert config["model"]["saliency_losses"] == [{"type": "SaliencyHingeLoss", "loss_weight": 4.0}]
    # The options hold in every cell.
    assert (config["train_dataloader"]["batch_size"], config["model"]["dims"]) == (3, 16)
    assert config["param_scheduler"] == [{"type": "StepLR", "by_epoch": True, "step_size": 40, "gamma": 0.1}]
    assert config["model"]["aligner"] == json.loads((finished / CELLS[0] / "cell.json").read_text())["model"]["aligner"]
    assert config["model"]["aligner"]["frame_word"]["token_dims"] == 8
    assert config["train_dataloader"]["dataset"]["type"] == "SyntheticDataset"
    assert config["randomness"]["seed"] == 3


def test_schedule_of_the_config(matrix, tmp_path, monkeypatch):
    monkeypatch.setattr("mesm_plugin.cli.matrix._run", lambda *_, train: 0)
    output, _ = matrix(tmp_path, "--schedule", "config")
    assert (output.code, output.err) == (0, "")
    config = json.loads((tmp_path / CELLS[2] / "cell.json").read_text())
    assert config["param_scheduler"][0]["type"] == "LinearLR"
    assert config["optim_wrapper"]["optimizer"]["lr"] == 7e-4


def test_finished_cells_are_not_run_again(matrix, copied):
    before = cells_of(copied)
    shutil.rmtree(copied / CELLS[1])
    output, ran = matrix(copied)
    assert (output.code, ran) == (0, [CELLS[1]])
    assert output.out.count("(finished before)") == 3
    assert cells_of(copied) == before


def test_a_failing_cell_is_named_and_the_others_go_on(matrix, copied, monkeypatch):
    for name in CELLS[1:3]:
        (copied / name / "result.json").unlink()
    count = matrix_cell.model_cost
    monkeypatch.setattr(
        matrix_cell, "model_cost", lambda config: 1 // 0 if config.model.type == "DETRGrounder" else count(config)
    )
    output, ran = matrix(copied)
    assert (output.code, ran) == (1, CELLS[1:3])
    text = (copied / "matrix.md").read_text()
    assert "### Failed\n\n- DETRGrounder-ConcatAligner-seed3: ZeroDivisionError: integer division" in text
    assert "** | failed |" in text
    assert "- Finished: 3 of 4 trainings." in text
    assert cells_of(copied)[CELLS[1]]["metrics"] == {}
    monkeypatch.undo()
    output, ran = matrix(copied)
    assert (output.code, ran) == (0, CELLS[1:2])
    assert "Failed" not in (copied / "matrix.md").read_text()


def test_a_cell_trains_in_a_process_of_its_own(matrix, copied):
    shutil.rmtree(copied / CELLS[1])
    output, _ = matrix(copied, in_process=True)
    assert (output.code, output.err) == (0, "")
    assert "Epoch(train) [1][2/2]" in (copied / CELLS[1] / "train.log").read_text()
    # The copy of the config that was written is that of the whole cell.
    written = Config.fromfile(copied / CELLS[1] / "mesm_synthetic.py")
    assert written.model.aligner == {"type": "ConcatAligner"}


def test_sizes_only(matrix, finished, tmp_path):
    output, ran = matrix(tmp_path, "--sizes-only")
    assert (output.code, output.err, ran) == (0, "", CELLS)
    assert f"[1/4] DETRGrounder with {ALIGNERS[0]}, seed 3: counted (" in output.out
    text = (tmp_path / "matrix.md").read_text()
    assert "Scores" not in text
    assert text.split("### ")[1:] == (finished / "matrix.md").read_text().split("### ")[2:]
    assert not list(tmp_path.glob("*/*.pth"))
    assert matrix(tmp_path, "--sizes-only")[1] == []


def test_a_process_that_dies_is_a_failed_cell(tmp_path, monkeypatch):
    monkeypatch.setattr(matrix_cell.sys, "executable", shutil.which("false"))
    matrix_cell.run_in_process(tmp_path, "mesm_synthetic")
    assert json.loads((tmp_path / "failure.json").read_text()) == {
        "error": "its process ended with exit status 1, see train.log"
    }


def test_work_dir_of_another_matrix(matrix, finished):
    before = (finished / CELLS[0] / "cell.json").read_text()
    output, ran = matrix(finished, "--epochs", 2)
    assert (output.code, ran) == (2, [])
    assert f"{finished / CELLS[0] / 'cell.json'}: this cell belongs to another matrix" in output.err
    assert "train_cfg.max_epochs is 1, and here 2; choose another --work-dir" in output.err
    assert (finished / CELLS[0] / "cell.json").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grounders", "MomentDTR"], "--grounders MomentDTR: there is no such grounder or config; did you mean 'Mom"),
        (["--grounders", "UVCOM"], "--grounders UVCOM: no shipped config of it is for SyntheticDataset; name one of"),
        (["--grounders", "UVCOM"], "(uvcom_charades_clip_slowfast, uvcom_qvhighlights_clip_slowfast)"),
        (["--grounders", "DETRGrounder", "mesm_synthetic"], "--grounders names DETRGrounder twice"),
        (["--aligners", "MESMAlinger"], "--aligners MESMAlinger: there is no such aligner; did you mean 'MESMAligner'"),
        (["--aligners", "MESMAligner", "MESMAligner"], "--aligners names MESMAligner twice"),
        (["--epochs", "0"], "--epochs is 0, expected at least 1"),
        (["--seeds", "1", "1"], "--seeds 1 1 names a seed twice"),
        (["--cfg-options", "model.ffn_dim=3"], "DETRGrounder has no argument 'ffn_dim'"),
    ],
)
def test_bad_input(command, tmp_path, arguments, message):
    output = command("matrix", "mesm_synthetic", "--work-dir", tmp_path, *arguments)
    assert output.code == 2
    assert message in output.err
    assert not list(tmp_path.iterdir())


def test_option_that_does_not_fit_a_cell(matrix, tmp_path, small):
    # MESM has two losses of clip scores, Moment-DETR one.
    option = "model.saliency_losses.1.loss_weight=2.0"
    output, ran = matrix(tmp_path, options=[*small[:-1], option])
    assert (output.code, ran) == (2, [])
    assert f"MomentDETR with MESMAligner: option '{option}': " in output.err
    assert not list(tmp_path.iterdir())


def test_damaged_record(matrix, copied):
    (copied / CELLS[0] / "result.json").write_text("{")
    output, _ = matrix(copied)
    assert output.code == 2
    assert f"{copied / CELLS[0] / 'result.json'} is not valid JSON" in output.err
    assert "delete it to run the cell again" in output.err
