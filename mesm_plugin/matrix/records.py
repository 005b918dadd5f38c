# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What a work directory keeps of a matrix: a folder for each cell."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesm_plugin.engine.config_loading import ConfigError
from mesm_plugin.matrix.cells import Cell
from mesm_plugin.utils import atomic_file

CONFIG, COST, RESULT, FAILURE = "cell.json", "cost.json", "result.json", "failure.json"


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
    cells = list(cells)
    for cell in cells:
        file = work_dir / cell.name / CONFIG
        known = read_json(file)
        difference = None if known is None else next(_differences(known, cell.config), None)
        if difference is not None:
            raise ConfigError(
                f"{file}: this cell belongs to another matrix, in which {difference}; "
                "choose another --work-dir, or delete that folder"
            )
    for cell in cells:
        write_json(work_dir / cell.name / CONFIG, cell.config)


def read_record(work_dir: Path, cell: Cell) -> Record:
    """What the folder of a cell holds."""
    folder = work_dir / cell.name
    result, failure = read_json(folder / RESULT) or {}, read_json(folder / FAILURE) or {}
    cost = read_json(folder / COST) or {}
    return Record(cell, cost, result.get("metrics", {}), result.get("data"), None if result else failure.get("error"))


def write_json(file: Path, content: Any) -> None:
    """Writes a file that appears whole or not at all."""
    with atomic_file(file) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(file: Path) -> Any:
    """What a file holds; None if there is none.

    Raises:
        ConfigError: If it is damaged.
    """
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{file} is not valid JSON ({error}); delete it to run the cell again") from error


def _differences(known: Any, new: Any, path: str = "") -> Iterator[str]:
    """Sentences such as "train_cfg.max_epochs is 2, and here 3"."""
    if isinstance(known, dict) and isinstance(new, dict):
        for key in {**known, **new}:
            place = f"{path}.{key}" if path else key
            if key not in known or key not in new:
                yield f"{place} is {'set' if key in known else 'absent'}, and here it is not"
            else:
                yield from _differences(known[key], new[key], place)
    elif known != new:
        yield f"{path} is {known!r}, and here {new!r}"
