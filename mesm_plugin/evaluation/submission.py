# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Submissions: JSON Lines, one record a query."""

import codecs
import json
import math
import os
from collections.abc import Iterable, Mapping
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np

from mesm_plugin.evaluation.functional.types import FloatArray
from mesm_plugin.utils import atomic_file


def write_submission(records: Iterable[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Writes one JSON line a record; `path` appears, or is replaced, only when the file is complete.

    Folders of `path` that do not exist are made. Arrays are written as lists.

    Raises:
        ValueError: A record holds NaN or infinity; names its qid.
    """
    with atomic_file(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        file.writelines(_line_of(record) for record in records)


def read_submission(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads the predictions of a split, of this package or of another code base of the field.

    Returns:
        A record a query with `qid` and `pred_relevant_windows`, [[start s, end s, score], ...], and whatever else the
        file has, such as `vid`, `query` and `pred_saliency_scores`, a score for each clip.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is not of this form, or a query occurs twice; the message names file, line and key.
    """
    path = Path(path)
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"submission {path} {problem}; `mesm test` writes one")
    records: list[dict[str, Any]] = []
    lines: dict[Any, int] = {}
    # Editors and `cat` leave blank lines at the end.
    for number, line in enumerate(path.read_bytes().removeprefix(codecs.BOM_UTF8).rstrip().splitlines(), 1):
        where = f"{path}:{number}"
        record = _parsed(line, where)
        if record["qid"] in lines:
            raise ValueError(f"{where}: 'qid' {record['qid']!r} is also in line {lines[record['qid']]}")
        lines[record["qid"]] = number
        records.append(record)
    if not records:
        raise ValueError(f"{path} is empty, expected a line a query")
    return records


def rounded(values: Any) -> FloatArray:
    """Numbers as they stand in a submission, with 4 decimals, float64."""
    return np.asarray(values, dtype=np.float64).round(4)


def _line_of(record: Mapping[str, Any]) -> str:
    try:
        return json.dumps(record, allow_nan=False, default=methodcaller("tolist")) + "\n"
    except ValueError as error:
        raise ValueError(f"qid {record['qid']!r}: its predictions hold NaN or infinity: {error}") from error


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: not a line of JSON ({error}); is the file complete?") from error
    except RecursionError as error:
        raise ValueError(f"{where}: not a line of JSON (nested too deeply)") from error
    if not isinstance(record, dict) or not _is_id(record.get("qid")):
        raise ValueError(f"{where}: expected a JSON object with a 'qid', a number or a string")
    windows, scores = record.get("pred_relevant_windows"), record.get("pred_saliency_scores", [0])
    if not isinstance(windows, list) or not all(map(_is_window, windows)):
        raise ValueError(f"{where}: 'pred_relevant_windows' is no list of [start, end, score], finite numbers")
    if not isinstance(scores, list) or not scores or not all(map(_is_finite, scores)):
        raise ValueError(f"{where}: 'pred_saliency_scores' is no list of a score for each clip")
    if not all(_is_id(record.get(key, "")) for key in ("vid", "query")):
        raise ValueError(f"{where}: 'vid' or 'query' is no text")
    return record


def _is_id(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _is_window(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 3 and all(map(_is_finite, row))


def _is_finite(value: Any) -> bool:
    # An integer beyond the range of float would raise in isfinite.
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300 and math.isfinite(value)
    )
