# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Scores as text."""

from mesm_plugin.cli.score_table import print_result, score_table
from mesm_plugin.engine.train_and_test import Result


def test_one_line_a_score_and_one_row_a_group():
    metrics = {
        "R1@0.5": 73.24,
        "mAP": 50.0,
        "short/R1@0.5": 100.0,
        "short/mAP": 3.456,
        "middle/mAP": 7.0,
        "middle/R1@0.5": None,
    }
    assert score_table(metrics).split("\n") == [
        "R1@0.5 73.2",
        "mAP 50.0",
        "        R1@0.5  mAP",
        "short    100.0  3.5",
        "middle       -  7.0",
    ]


def test_scores_without_groups():
    assert score_table({"R1@0.5": 73.25, "mAP": float("nan")}) == "R1@0.5 73.2\nmAP -"


def test_split_without_labels(capsys):
    print_result(Result("test", "QVHighlights", {}, None))
    assert capsys.readouterr().out.endswith(
        "of the weights at the end of training:\nnone, as the split has no labels\n"
    )
