# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The ground truth of a split from its annotation file, in the form that submissions are scored with."""

import os
from pathlib import Path
from typing import Any

from mesm_plugin.datasets import CharadesCDDataset, CharadesCGDataset, CharadesSTADataset, TACoSDataset
from mesm_plugin.datasets.files import is_id, is_number, read_json, read_json_lines, require_file, shown

Record = dict[str, Any]
# QVHighlights has grades up to 4.
_HIGHEST = 100
_JSON_READERS = {"fps": TACoSDataset, "video_duration": CharadesCDDataset, "duration": CharadesCGDataset}


def read_ground_truth(
    file: str | os.PathLike[str], duration_file: str | os.PathLike[str] | None = None
) -> list[Record]:
    """Reads the annotations of a split; which data set it is shows in the file.

    Args:
        file: JSON Lines in the form of QVHighlights (`.jsonl`), the published JSON of TACoS, Charades-CG or Charades-CD
            (`.json`), or the published text of Charades-STA (`.txt`). Published moments are repaired as the data sets
            of this package do it.
        duration_file: Durations of Charades-STA's videos; None for `Charades_v1_train.csv` or `Charades_v1_test.csv`
            beside the text, whichever the name of the text says.

    Returns:
        A record a query with `qid`, `vid`, `query`, `duration` in seconds and `relevant_windows` in seconds; of JSON
        Lines whatever a line has.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: A file is broken, of an unknown form or without labels; the message names the place.
    """
    path = require_file(Path(file), "annotation file")
    if path.suffix == ".jsonl":
        return _json_lines(path)
    reader: Any
    if path.suffix == ".json":
        entries = read_json(path)
        first = next(iter(entries.values()), None) if isinstance(entries, dict) else None
        reader = next((kind for key, kind in _JSON_READERS.items() if isinstance(first, dict) and key in first), None)
        if reader is None:
            raise ValueError(
                f"{path} is none of the published JSON files: expected an object with an entry per video that has "
                f"{', '.join(map(repr, _JSON_READERS))} or the like"
            )
        options = {"ann_file": str(path), "clip_length": 1.0}
    elif path.suffix == ".txt":
        split = "train" if "train" in path.stem else "test"
        durations = path.with_name(f"Charades_v1_{split}.csv") if duration_file is None else Path(duration_file)
        reader = CharadesSTADataset
        options = {"ann_file": str(path), "duration_file": str(durations), "clip_length": 1.0}
    else:
        raise ValueError(f"{path} is no annotation file, expected one that ends with .jsonl, .json or .txt")
    dataset = reader(**options, features=None, text=None, lazy_init=True)
    return [
        {
            "qid": query["qid"],
            "vid": video["vid"],
            "query": query["sentence"],
            "duration": video["duration"],
            "relevant_windows": query["moments"],
        }
        for video in dataset.load_data_list()
        for query in video["queries"]
    ]


def _json_lines(path: Path) -> list[Record]:
    records: list[Record] = []
    lines: dict[Any, int] = {}
    for number, record in read_json_lines(path):
        where = f"{path}:{number}"
        if not isinstance(record, dict) or not is_id(record.get("qid")):
            raise ValueError(f"{where}: expected a JSON object with a 'qid', a number or a string")
        qid = record["qid"]
        if qid in lines:
            raise ValueError(f"{where}: 'qid' {qid!r} is also in line {lines[qid]}")
        lines[qid] = number
        if not record.get("relevant_windows"):
            raise ValueError(
                f"{where}: qid {qid!r} has no 'relevant_windows'; a split without labels cannot be scored here"
            )
        if problem := _problem(record):
            raise ValueError(f"{where}: {problem}")
        records.append(record)
    if not records:
        raise ValueError(f"{path} is empty, expected a line a query")
    graded = [record["qid"] for record in records if "saliency_scores" in record]
    if 0 < len(graded) < len(records):
        raise ValueError(
            f"{path}: {len(graded)} of {len(records)} queries have 'saliency_scores', such as {graded[0]!r}; "
            "expected all or none"
        )
    return records


def _problem(record: Record) -> str | None:
    """What is wrong with a labelled query."""
    duration, windows = record.get("duration"), record["relevant_windows"]
    if not is_number(duration) or duration <= 0:
        return f"'duration' is {shown(duration)}, expected seconds > 0"
    if not _is_rows(windows) or not all(len(row) == 2 and row[0] < row[1] for row in windows):
        return f"'relevant_windows' is {shown(windows)}, expected a list of [start, end], start < end, in seconds"
    if not all(is_id(record.get(key, "")) for key in ("vid", "query")):
        return "'vid' or 'query' is no text"
    if "saliency_scores" in record:
        clips, grades = record.get("relevant_clip_ids"), record["saliency_scores"]
        if not isinstance(clips, list) or not all(type(clip) is int and clip >= 0 for clip in clips):
            return f"'relevant_clip_ids' is {shown(clips)}, expected a list of indices of clips"
        if not _is_rows(grades) or len({len(row) for row in grades}) != 1 or len(grades) != len(clips):
            return f"'saliency_scores' is {shown(grades)}, expected the grades of each of the {len(clips)} clips"
        if not all(0 <= grade <= _HIGHEST for row in grades for grade in row):
            return f"'saliency_scores' is {shown(grades)}, expected grades from 0 to {_HIGHEST}"
    return None


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, list) and row and all(map(is_number, row)) for row in value)
