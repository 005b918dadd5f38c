# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Finished runs beside one another."""

import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesm_plugin.engine.result_file import RESULT
from mesm_plugin.utils import read_json

# What differs between runs of the same settings.
_IGNORED = ("work_dir", "randomness.seed", "resume", "load_from", "launcher", "log_level")
_ABSENT = "-"


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        name: Its work directory.
        scores: By name; None where a score is not finite.
        data: Which split of which data the scores are of.
        seed: Of everything random.
        settings: The values of its config by dotted key.
    """

    name: str
    scores: dict[str, float | None]
    data: str
    seed: int | None
    settings: dict[str, Any]


@dataclass(frozen=True)
class Group:
    """Runs with the same settings but for the seed."""

    runs: tuple[Run, ...]

    def values(self, score: str) -> list[float]:
        """A score of all runs that have it."""
        return [value for run in self.runs if (value := run.scores.get(score)) is not None]

    def text(self, score: str) -> str:
        """A score, or its mean and standard deviation over the runs."""
        values = self.values(score)
        if not values:
            return _ABSENT
        if len(values) == 1:
            return f"{values[0]:.2f}"
        return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def read_run(folder: str | Path) -> Run:
    """Reads what a work directory tells of its run.

    Raises:
        FileNotFoundError: The run is not finished, or this is no work directory.
        ValueError: A file is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no work directory")
    if not (folder / RESULT).is_file():
        raise FileNotFoundError(f"{folder} has no {RESULT}, which `mesm train` writes at its end; is the run finished?")
    result = _read(folder / RESULT)
    records = sorted(folder.glob("*/run.json"))
    record = _read(records[-1]) if records else {}
    try:
        scores = {name: None if value is None else float(value) for name, value in result["metrics"].items()}
        if not all(value is None or math.isfinite(value) for value in scores.values()):
            raise ValueError("a score is not finite")
        data = f"{result['split']} split ({result['data']})"
        settings = dict(_flat(record.get("settings", {})))
        return Run(str(folder), scores, data, record.get("seed"), settings)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ValueError(f"{folder}: {RESULT} or run.json is not what `mesm train` writes ({error!r})") from error


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """The runs by what their settings are, in order of appearance."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        key = json.dumps([run.data, {key: value for key, value in run.settings.items() if key not in _IGNORED}])
        groups.setdefault(key, []).append(run)
    return [Group(tuple(members)) for members in groups.values()]


def differing_settings(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """The settings in which the groups differ, each with a value a group; "-" where a group has none."""
    settings = [group.runs[0].settings for group in groups]
    keys = dict.fromkeys(key for values in settings for key in values if key not in _IGNORED)
    found = {key: [values.get(key, _ABSENT) for values in settings] for key in keys}
    return {key: values for key, values in found.items() if any(value != values[0] for value in values)}


def _read(path: Path) -> dict[str, Any]:
    content = read_json(path, "leave the run out, or train it again")
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, got a {type(content).__name__}")
    return content


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from _flat(item, f"{path}.{index}")
    else:
        yield path, value
