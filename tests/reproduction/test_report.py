# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The written table: differences, means, marks."""

from pathlib import Path

import pytest

from mesm_plugin.reproduction.report import Reproduced, difference, table_json, table_markdown
from mesm_plugin.reproduction.runs import Outcome, Recipe, Run
from mesm_plugin.reproduction.simulated import SimulatedFeatures
from mesm_plugin.reproduction.tables import TABLES

CONFIG = {"train_cfg": {"max_epochs": 200}}
REAL = Recipe(Path("data"))
SIMULATED = Recipe(Path("data"), SimulatedFeatures(Path("sim"), Path("sim"), {}))


def reproduced(number: int, *outcomes: Outcome, problems: tuple[str, ...] = ()) -> list[Reproduced]:
    """All rows of a table; those outcomes are of the seeds of its last row."""
    rows = []
    for row in TABLES[number].rows:
        own = outcomes if row is TABLES[number].rows[-1] else (Outcome(),)
        runs = [Run(row.config, seed, Path("runs") / row.name, CONFIG, problems) for seed in range(len(own))]
        rows.append(Reproduced(row, runs, own))
    return rows


@pytest.mark.parametrize(("ours", "change"), [(61.24, 0.0), (62.5, 1.26), (60.0, -1.24), (None, None)])
def test_difference(ours: float | None, change: float | None) -> None:
    assert difference(ours, 61.24) == change


def test_means_over_seeds_beside_the_paper() -> None:
    metrics = {"R1@0.5": 60.0, "R1@0.7": 38.04, "mIoU": 52.0, "mAP": 38.57}
    rows = reproduced(7, Outcome({**metrics, "R1@0.5": 57.0}), Outcome({**metrics, "R1@0.5": 58.0}), Outcome())
    last = table_json(TABLES[7], rows, REAL)["rows"][-1]
    assert last["ours"]["R1@0.5"] == 57.5
    assert last["paper"]["R1@0.5"] == 58.25
    assert last["difference"] == {"R1@0.5": -0.75, "R1@0.7": 2.34, "mIoU": 1.69, "mAP": 0.97}
    text = table_markdown(TABLES[7], rows, REAL)
    assert "| 6 layers (2 of 3 seeds) | 58.25 / 57.50 / -0.75 | 35.70 / 38.04 / +2.34 |" in text
    assert "| 2 layers | 57.10 / - / - |" in text
    assert "| row | R1@0.5: paper / ours / difference |" in text
    assert "SIMULATED" not in text


def test_simulated_features_are_marked() -> None:
    rows = reproduced(1, Outcome(dict.fromkeys(TABLES[1].metrics, 1.0)))
    text = table_markdown(TABLES[1], rows, SIMULATED)
    assert text.startswith("# Table 1: Charades-STA, on SIMULATED features\n")
    assert "The scores are no results on Charades-STA, and the difference to the paper says nothing" in text
    assert all(f"{name}: paper / SIMULATED / difference" in text for name in TABLES[1].metrics)
    assert "/ ours /" not in text
    content = table_json(TABLES[1], rows, SIMULATED)
    assert content["simulated"] is True
    assert content["warning"].startswith("SIMULATED features: ")
    assert "warning" not in table_json(TABLES[1], rows, REAL)


def test_validation_scores_stand_for_the_test_split_of_qvhighlights() -> None:
    outcome = Outcome(dict.fromkeys(TABLES[3].metrics, 1.0), submission="submission.zip")
    text = table_markdown(TABLES[3], reproduced(3, outcome), REAL)
    assert "R1@0.5: paper (test) / ours (val) / difference" in text
    assert "The paper's scores are of the test split, ours are of the val split." in text
    submission = "mesm_clip_slowfast, seed 0: runs/mesm_clip_slowfast/submission.zip"
    assert f"## For the evaluation server\n\n- {submission}" in text


def test_scores_of_the_test_split_of_qvhighlights_where_there_are_labels() -> None:
    metrics = dict.fromkeys(TABLES[3].metrics, 1.0)
    labelled = Outcome({**metrics, **{f"test/{name}": 2.0 for name in metrics}})
    rows = reproduced(3, labelled)
    text = table_markdown(TABLES[3], rows, REAL)
    assert "R1@0.5: paper / ours / difference" in text
    assert "Scores are of the test split; the best checkpoint is chosen on the val split." in text
    content = table_json(TABLES[3], rows, REAL)
    assert (content["split"], content["rows"][-1]["ours"]["R1@0.5"]) == ("test", 2.0)
    # One run without labels, and all are of the validation split.
    content = table_json(TABLES[3], reproduced(3, labelled, Outcome(metrics)), REAL)
    assert (content["split"], content["rows"][-1]["ours"]["R1@0.5"]) == ("val", 1.0)


def test_failures_and_missing_files_are_listed() -> None:
    text = table_markdown(TABLES[2], reproduced(2, Outcome(error="out of memory")), REAL)
    assert "## Failed\n\n- mesm_c3d_glove, seed 0: out of memory" in text
    text = table_markdown(TABLES[2], reproduced(2, Outcome(), problems=("c3d.hdf5 is missing",)), REAL)
    assert "## Not run\n\n- mesm_c3d_glove, seed 0: c3d.hdf5 is missing" in text
