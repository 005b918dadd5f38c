# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A table beside the paper's, as Markdown and as plain data."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mesm_plugin.reproduction.runs import Outcome, Recipe, Run
from mesm_plugin.reproduction.tables import Row, Table

SIMULATED = (
    "SIMULATED features: random numbers shaped by the annotated moments, no video is involved. The scores are no "
    "results on {data}, and the difference to the paper says nothing about the method or this code."
)


@dataclass(frozen=True)
class Reproduced:
    """A row and what is known of its runs.

    Attributes:
        row: The row.
        runs: One a seed.
        outcomes: Of each run.
    """

    row: Row
    runs: Sequence[Run]
    outcomes: Sequence[Outcome]

    def score(self, metric: str) -> float | None:
        """Mean over the finished runs."""
        known = [value for outcome in self.outcomes if (value := outcome.metrics.get(metric)) is not None]
        return statistics.fmean(known) if known else None

    @property
    def finished(self) -> int:
        """How many runs have scores."""
        return sum(bool(outcome.metrics) for outcome in self.outcomes)


def scored_split(table: Table, rows: Sequence[Reproduced]) -> str:
    """The split that our scores of a table are of: the paper's, unless a finished run has none of it."""
    finished = [outcome.metrics for row in rows for outcome in row.outcomes if outcome.metrics]
    has_all = all(f"{table.paper_split}/{name}" in metrics for metrics in finished for name in table.metrics)
    return table.paper_split if finished and has_all else table.split


def _scores(table: Table, rows: Sequence[Reproduced], row: Reproduced) -> dict[str, float | None]:
    """Our scores of a row by the table's metrics."""
    split = scored_split(table, rows)
    prefix = "" if split == table.split else f"{split}/"
    return {name: row.score(prefix + name) for name in table.metrics}


def table_json(table: Table, rows: Sequence[Reproduced], recipe: Recipe) -> dict[str, Any]:
    """The published numbers, those of the runs, the difference, and every run with all its scores."""
    content: dict[str, Any] = {
        "table": table.name,
        "title": table.title,
        "simulated": recipe.simulated is not None,
        "paper_split": table.paper_split,
        "split": scored_split(table, rows),
        "metrics": list(table.metrics),
        "epochs": recipe.epochs,
        "options": list(recipe.options),
        "torch": torch.__version__,
        "rows": [_row_json(table, row, _scores(table, rows, row)) for row in rows],
    }
    if recipe.simulated is not None:
        content["warning"] = SIMULATED.format(data=table.data)
    return content


def table_markdown(table: Table, rows: Sequence[Reproduced], recipe: Recipe) -> str:
    """The table, how it was produced, and what is missing or failed."""
    simulated = recipe.simulated is not None
    ours = "SIMULATED" if simulated else "ours"
    split = scored_split(table, rows)
    if split != table.paper_split:
        ours += f" ({split})"
    paper = f"paper ({table.paper_split})" if split != table.paper_split else "paper"
    lines = [f"# Table {table.number}: {table.title}{', on SIMULATED features' if simulated else ''}", ""]
    if simulated:
        lines += [f"**{SIMULATED.format(data=table.data)}**", ""]
    lines += [f"- {line}" for line in _produced(table, rows, recipe)]
    lines += ["", "| row | " + " | ".join(f"{name}: {paper} / {ours} / difference" for name in table.metrics) + " |"]
    lines.append("|---|" + "---|" * len(table.metrics))
    lines += [_line(table, row, _scores(table, rows, row)) for row in rows]
    for title, notes in _remarks(rows).items():
        lines += ["", f"## {title}", "", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def difference(ours: float | None, paper: float) -> float | None:
    """Ours minus the paper's, in points with two decimals."""
    return None if ours is None else round(ours - paper, 2)


def _row_json(table: Table, row: Reproduced, scores: Mapping[str, float | None]) -> dict[str, Any]:
    paper = dict(zip(table.metrics, row.row.paper, strict=True))
    return {
        "row": row.row.name,
        "label": row.row.label,
        "config": row.row.config,
        "paper": paper,
        "ours": {name: _rounded(value) for name, value in scores.items()},
        "difference": {name: difference(value, paper[name]) for name, value in scores.items()},
        "runs": [
            {"seed": run.seed, "folder": str(run.folder), "missing": list(run.problems), **vars(outcome)}
            for run, outcome in zip(row.runs, row.outcomes, strict=True)
        ],
    }


def _line(table: Table, row: Reproduced, scores: Mapping[str, float | None]) -> str:
    cells = []
    for ours, paper in zip(scores.values(), row.row.paper, strict=True):
        change = difference(ours, paper)
        shown = "- / -" if ours is None or change is None else f"{ours:.2f} / {change:+.2f}"
        cells.append(f"{paper:.2f} / {shown}")
    label = row.row.label
    if 0 < row.finished < len(row.runs):
        label += f" ({row.finished} of {len(row.runs)} seeds)"
    return f"| {label} | " + " | ".join(cells) + " |"


def _produced(table: Table, rows: Sequence[Reproduced], recipe: Recipe) -> list[str]:
    scored = scored_split(table, rows)
    if scored != table.paper_split:
        split = f"The paper's scores are of the {table.paper_split} split, ours are of the {scored} split."
    elif scored != table.split:
        split = f"Scores are of the {scored} split; the best checkpoint is chosen on the {table.split} split."
    else:
        split = f"Scores are of the {scored} split, on which the best checkpoint is chosen, too, as in the paper."
    epochs = {run.config["train_cfg"]["max_epochs"] for row in rows for run in row.runs}
    seeds = sorted({run.seed for row in rows for run in row.runs if run.seed is not None})
    lines = [
        split,
        "Differences are ours minus the paper's, in points."
        + (" Scores are means over the seeds." if len(seeds) > 1 else ""),
        f"Epochs: {', '.join(map(str, sorted(epochs)))}. Seeds: {', '.join(map(str, seeds))}.",
    ]
    if recipe.options:
        lines.append("Options: " + ", ".join(f"`{option}`" for option in recipe.options) + ".")
    if any(row.row.label.split(" (")[0].endswith("*") for row in rows):
        lines.append("*: trained by MESM's authors under MESM's training scheme, and so here.")
    notes = dict.fromkeys(note for row in rows for run in row.runs for note in run.notes)
    return [*lines, *(f"Annotations: {note}." for note in notes)]


def _remarks(rows: Sequence[Reproduced]) -> Mapping[str, list[str]]:
    remarks: dict[str, list[str]] = {}
    for row in rows:
        for run, outcome in zip(row.runs, row.outcomes, strict=True):
            name = f"{row.row.name}, seed {run.seed}"
            if outcome.error is not None:
                remarks.setdefault("Failed", []).append(f"{name}: {outcome.error}")
            elif not outcome.metrics and run.problems:
                remarks.setdefault("Not run", []).append(f"{name}: {'; '.join(run.problems)}")
            if outcome.submission is not None:
                known = outcome.submission.startswith("not written")
                where = outcome.submission if known else Path(*run.folder.parts[-2:]) / outcome.submission
                remarks.setdefault("For the evaluation server", []).append(f"{name}: {where}")
    return remarks


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
