# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A matrix as Markdown and as plain data."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from mesm_plugin.matrix.records import Record

SCORES = ("R1@0.5", "R1@0.7", "mAP")


@dataclass(frozen=True)
class Provenance:
    """How a matrix was produced.

    Attributes:
        data: Config of the data set.
        rows: The config that each grounder's settings are of, by grounder.
        schedule: Whose batch size, optimiser and learning rates.
        epochs: Of each grounder.
        seeds: One training of each cell for each.
        options: The `--cfg-options`.
    """

    data: str
    rows: dict[str, str]
    schedule: str
    epochs: dict[str, int]
    seeds: Sequence[int]
    options: Sequence[str]


def matrix_json(records: Iterable[Record], provenance: Provenance) -> dict[str, Any]:
    """Everything that is known: how it was produced, and each cell with all its scores."""
    cells = [
        {
            "grounder": record.cell.grounder,
            "aligner": record.cell.aligner,
            "own_aligner": record.cell.own,
            "seed": record.cell.seed,
            "folder": record.cell.name,
            **record.cost,
            "data": record.data,
            "metrics": dict(record.metrics),
            "error": record.error,
        }
        for record in records
    ]
    return {**vars(provenance), "torch": torch.__version__, "cells": cells}


def matrix_markdown(records: Sequence[Record], provenance: Provenance) -> str:
    """The scores and the sizes as two tables of grounders by aligners, with how they were produced and what failed."""
    tables: list[tuple[str, Callable[[list[Record]], str]]] = [
        (f"Scores{f' on {split}' if split else ''}: {' / '.join(SCORES)}", partial(_scores, split))
        for split in _splits(records)
        if any(record.finished or record.error is not None for record in records)
    ]
    tables += [
        ("Parameters in millions: of the aligner / of the model", _parameters),
        ("GFLOP a query: inference / training", _flops),
    ]
    parts = [_produced(records, provenance)]
    parts += [f"### {title}\n\n{_table(records, cell)}" for title, cell in tables]
    failed = [record for record in records if record.error is not None]
    if failed:
        parts.append("### Failed\n\n" + "\n".join(f"- {record.cell.name}: {record.error}" for record in failed))
    return "\n\n".join(parts) + "\n"


def score_text(records: Sequence[Record]) -> str:
    """The scores of the finished ones among the records of a cell, their means over the seeds, split by split."""
    return "; ".join(
        f"{split} {_means(split, records)}" if split else _means(split, records) for split in _splits(records)
    )


def _splits(records: Iterable[Record]) -> list[str]:
    """The test splits that are scored apart; "" alone where all queries are scored together."""
    keys = [key for record in records for key in record.metrics]
    groups = dict.fromkeys(key.rpartition("/")[0] for key in keys if key.split("/")[-1] in SCORES)
    return [""] if "" in groups or not groups else [group for group in groups if "/" not in group]


def _means(split: str, records: Iterable[Record]) -> str:
    keys = [f"{split}/{name}" if split else name for name in SCORES]
    return " / ".join(_number(_mean(record.metrics.get(key) for record in records), 1) for key in keys)


def _produced(records: Sequence[Record], provenance: Provenance) -> str:
    done = sum(record.finished for record in records)
    data = next((f"; the scores are of its {record.data}" for record in records if record.data), "")
    epochs = set(provenance.epochs.values())
    seeds = ", ".join(map(str, provenance.seeds))
    lines = [
        f"Data: `{provenance.data}`{data}.",
        "Settings of the grounders: " + ", ".join(f"{name} of `{row}`" for name, row in provenance.rows.items()) + ".",
        f"Batch size, optimiser and learning rates: {provenance.schedule}.",
        f"Epochs: {epochs.pop()}."
        if len(epochs) == 1
        else "Epochs: " + ", ".join(f"{name} {count}" for name, count in provenance.epochs.items()) + ".",
        f"Seed: {seeds}." if len(provenance.seeds) == 1 else f"Seeds: {seeds}; scores are their means.",
    ]
    if provenance.options:
        lines.append("Options: " + ", ".join(f"`{option}`" for option in provenance.options) + ".")
    lines.append(f"Finished: {done} of {len(records)} trainings. **Bold**: the grounder's own aligner.")
    return "\n".join(f"- {line}" for line in lines)


def _table(records: Sequence[Record], text: Callable[[list[Record]], str]) -> str:
    aligners = list(dict.fromkeys(record.cell.aligner for record in records))
    lines = ["| grounder | " + " | ".join(aligners) + " |", "|---|" + "---|" * len(aligners)]
    for grounder in dict.fromkeys(record.cell.grounder for record in records):
        row = []
        for aligner in aligners:
            cell = [r for r in records if (r.cell.grounder, r.cell.aligner) == (grounder, aligner)]
            row.append(f"**{text(cell)}**" if any(r.cell.own for r in cell) else text(cell))
        lines.append(f"| {grounder} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def _scores(split: str, records: list[Record]) -> str:
    failed = sum(record.error is not None for record in records)
    if failed == len(records):
        return "failed"
    missing = sum(not record.finished for record in records)
    if missing == len(records):
        return "-"
    # A mean of fewer seeds than the table says must show.
    return _means(split, records) + (f" ({len(records) - missing} of {len(records)} seeds)" if missing else "")


def _parameters(records: list[Record]) -> str:
    return " / ".join(_number(_scaled(records, key, 1e6), 2) for key in ("aligner_parameters", "parameters"))


def _flops(records: list[Record]) -> str:
    return " / ".join(_number(_scaled(records, key, 1e9), 3) for key in ("inference_flops", "training_flops"))


def _scaled(records: list[Record], key: str, unit: float) -> float | None:
    value = next((record.cost[key] for record in records if key in record.cost), None)
    return None if value is None else value / unit


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
