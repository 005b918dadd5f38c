# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What a work directory keeps of a matrix: a folder for each cell."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mesm_plugin.engine.run_folder import CONFIG, FAILURE, RESULT, keep_settings, read_if_there
from mesm_plugin.matrix.cells import Cell

COST = "cost.json"


@dataclass(frozen=True)
class Record:
    """What is known of a cell.

    Attributes:
        cell: The cell.
        cost: Parameters and operations (`mesm_plugin.matrix.cost.model_cost`); empty if they were not counted.
        metrics: Scores by name; empty if the cell is not finished.
        data: Which data the scores are of, in words.
        error: First line of the error of a cell that failed.
    """

    cell: Cell
    cost: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    data: str | None = None
    error: str | None = None

    @property
    def finished(self) -> bool:
        """Whether there are scores."""
        return bool(self.metrics)


def prepare(work_dir: Path, cells: Iterable[Cell]) -> None:
    """Checks that no cell was run with another config, then writes the config of each into its folder.

    Raises:
        ConfigError: If a folder holds a cell of another matrix, with the first key that differs.
    """
    keep_settings({work_dir / cell.name / CONFIG: cell.config for cell in cells}, "this cell belongs to another matrix")


def read_record(work_dir: Path, cell: Cell) -> Record:
    """What the folder of a cell holds."""
    folder = work_dir / cell.name
    result, failure = read_if_there(folder / RESULT) or {}, read_if_there(folder / FAILURE) or {}
    cost = read_if_there(folder / COST) or {}
    return Record(cell, cost, result.get("metrics", {}), result.get("data"), None if result else failure.get("error"))
