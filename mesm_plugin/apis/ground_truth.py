# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The ground truth of a split from its annotation file, in the form that submissions are scored with."""

import os
from pathlib import Path
from typing import Any

from mesm_plugin.datasets import CharadesCDDataset, CharadesCGDataset, CharadesSTADataset, TACoSDataset
from mesm_plugin.datasets.files import read_json, read_json_lines, require_file

Record = dict[str, Any]
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
    records = []
    for number, record in read_json_lines(path):
        if not isinstance(record, dict) or "qid" not in record:
            raise ValueError(f"{path}:{number}: expected a JSON object with a 'qid'")
        if not record.get("relevant_windows"):
            raise ValueError(
                f"{path}:{number}: qid {record['qid']!r} has no 'relevant_windows'; a split without labels cannot be "
                "scored here"
            )
        records.append(record)
    if not records:
        raise ValueError(f"{path} is empty, expected a line a query")
    return records
