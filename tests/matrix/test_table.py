# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A matrix as Markdown, from records made by hand."""

from typing import Any

from mesm_plugin.matrix.cells import Cell
from mesm_plugin.matrix.records import Record
from mesm_plugin.matrix.table import Provenance, matrix_json, matrix_markdown

COST = {"aligner_parameters": 250_000, "parameters": 1_500_000, "inference_flops": 2.5e9, "training_flops": 30e9}


def record(grounder: str, aligner: str, seed: int = 0, own: bool = False, **known: Any) -> Record:
    return Record(Cell(grounder, aligner, seed, {}, own), **known)


def scores(r1: float | None, map_: float | None = 20.0, split: str = "") -> dict[str, float | None]:
    return {f"{split}R1@0.5": r1, f"{split}R1@0.7": 10.0, f"{split}mAP": map_, f"{split}short/mAP": 1.0}


def provenance(seeds: list[int], **changes: Any) -> Provenance:
    fixed: dict[str, Any] = {"data": "mine", "rows": {"G": "g_config"}, "schedule": "each grounder's own"}
    fixed |= {"epochs": {"G": 3}, "options": []}
    return Provenance(seeds=seeds, **{**fixed, **changes})


def rows(text: str, title: str) -> list[str]:
    table = text.split(f"### {title}\n\n")[1].split("\n\n")[0]
    return [line for line in table.splitlines() if line.startswith("| G") or line.startswith("| H")]


def test_scores_are_means_over_the_seeds_that_finished() -> None:
    records = [
        record("G", "A", 0, own=True, metrics=scores(40.0), cost=COST, data="test split (200 videos)"),
        record("G", "A", 1, own=True, metrics=scores(43.0, None), cost=COST),
        record("G", "B", 0, metrics=scores(30.0), cost=COST),
        record("G", "B", 1, error="ValueError: no"),
        record("H", "A", 0),
        record("H", "A", 1),
        record("H", "B", 0, error="OSError: full"),
        record("H", "B", 1, error="OSError: full"),
    ]
    text = matrix_markdown(records, provenance([0, 1]))
    assert rows(text, "Scores: R1@0.5 / R1@0.7 / mAP") == [
        "| G | **41.5 / 10.0 / 20.0** | 30.0 / 10.0 / 20.0 (1 of 2 seeds) |",
        "| H | - | failed |",
    ]
    assert rows(text, "Parameters in millions: of the aligner / of the model")[0] == (
        "| G | **0.25 / 1.50** | 0.25 / 1.50 |"
    )
    assert rows(text, "GFLOP a query: inference / training") == [
        "| G | **2.500 / 30.000** | 2.500 / 30.000 |",
        "| H | - / - | - / - |",
    ]
    assert "- Data: `mine`; the scores are of its test split (200 videos).\n" in text
    assert "- Seeds: 0, 1; scores are their means.\n- Finished: 3 of 8 trainings." in text
    assert text.endswith("- H-B-seed0: OSError: full\n- H-B-seed1: OSError: full\n")


def test_splits_that_are_scored_apart_have_tables_of_their_own() -> None:
    metrics = {**scores(40.0, split="new/"), **scores(50.0, split="old/")}
    text = matrix_markdown([record("G", "A", metrics=metrics)], provenance([0]))
    assert rows(text, "Scores on new: R1@0.5 / R1@0.7 / mAP") == ["| G | 40.0 / 10.0 / 20.0 |"]
    assert rows(text, "Scores on old: R1@0.5 / R1@0.7 / mAP") == ["| G | 50.0 / 10.0 / 20.0 |"]
    assert "short" not in text


def test_epochs_that_differ_and_options_are_told() -> None:
    changes = {"rows": {"G": "g", "H": "h"}, "epochs": {"G": 3, "H": 5}, "options": ["model.dims=8"]}
    text = matrix_markdown([record("G", "A"), record("H", "A")], provenance([7], **changes))
    assert "- Settings of the grounders: G of `g`, H of `h`.\n" in text
    assert "- Epochs: G 3, H 5.\n- Seed: 7.\n- Options: `model.dims=8`.\n" in text


def test_json_holds_every_score() -> None:
    content = matrix_json([record("G", "A", 2, own=True, metrics=scores(40.0), cost=COST)], provenance([2]))
    assert content["rows"] == {"G": "g_config"}
    (cell,) = content["cells"]
    assert cell["folder"] == "G-A-seed2"
    assert (cell["grounder"], cell["aligner"], cell["seed"], cell["own_aligner"]) == ("G", "A", 2, True)
    assert cell["metrics"] == {"R1@0.5": 40.0, "R1@0.7": 10.0, "mAP": 20.0, "short/mAP": 1.0}
    assert cell["inference_flops"] == 2.5e9
