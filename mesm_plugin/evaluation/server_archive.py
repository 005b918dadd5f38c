# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The archive that QVHighlights' evaluation server takes."""

import json
import math
import os
import zipfile
from pathlib import Path
from typing import Any

from mesm_plugin.utils import atomic_file

NAMES = {"val": "hl_val_submission.jsonl", "test": "hl_test_submission.jsonl"}
"""What the server calls the predictions of each split."""


def write_server_archive(
    val: str | os.PathLike[str], test: str | os.PathLike[str], path: str | os.PathLike[str]
) -> dict[str, int]:
    """Packs the predictions of both splits in one ZIP file without folders; it appears only when it is complete.

    Args:
        val: Submission of the validation split, as `mesm test --out` writes it.
        test: Submission of the test split.
        path: The ZIP file.

    Returns:
        The queries of each split.

    Raises:
        FileNotFoundError: A submission does not exist.
        ValueError: A line lacks what the server scores, or a query occurs twice; the message names file, line and key.
    """
    seen: dict[Any, str] = {}
    counts: dict[str, int] = {}
    contents: dict[str, bytes] = {}
    for split, file in (("val", Path(val)), ("test", Path(test))):
        if not file.is_file():
            raise FileNotFoundError(f"submission of the {split} split not found: {file}; `mesm test --out` writes it")
        contents[split] = file.read_bytes()
        lines = contents[split].splitlines()
        if not lines:
            raise ValueError(f"{file} is empty, expected a line a query of the {split} split")
        for number, line in enumerate(lines, 1):
            where = f"{file}:{number}"
            qid = _checked_qid(line, where)
            if qid in seen:
                raise ValueError(
                    f"{where}: 'qid' {qid!r} is also in {seen[qid]}; expected one line a query, and two splits"
                )
            seen[qid] = where
        counts[split] = len(lines)
    with atomic_file(path) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
        for split, content in contents.items():
            archive.writestr(NAMES[split], content)
    return counts


def _checked_qid(line: bytes, where: str) -> Any:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: not a line of JSON ({error}); is the file complete?") from error
    if not isinstance(record, dict) or "qid" not in record:
        raise ValueError(f"{where}: expected a JSON object with a 'qid'")
    windows, scores = record.get("pred_relevant_windows"), record.get("pred_saliency_scores")
    if not isinstance(windows, list) or not all(isinstance(row, list) and len(row) == 3 for row in windows):
        raise ValueError(f"{where}: 'pred_relevant_windows' is no list of [start, end, score]")
    if not isinstance(scores, list) or not scores or not all(map(_is_finite, scores)):
        raise ValueError(f"{where}: 'pred_saliency_scores' is no list of a score for each clip")
    return record["qid"]


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
