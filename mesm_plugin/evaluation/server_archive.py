# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The archive that QVHighlights' evaluation server takes."""

import json
import os
import zipfile
from typing import Any

from mesm_plugin.evaluation.submission import read_submission
from mesm_plugin.utils import atomic_file

NAMES = {"val": "hl_val_submission.jsonl", "test": "hl_test_submission.jsonl"}
"""What the server calls the predictions of each split."""
PUBLISHED_QUERIES = {"val": 1550, "test": 1542}
"""How many queries each split has."""


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
    qids: dict[Any, str] = {}
    lines: dict[str, list[str]] = {}
    for split, file in (("val", val), ("test", test)):
        records = read_submission(file)
        for qid, record in ((record["qid"], record) for record in records):
            if "pred_saliency_scores" not in record:
                raise ValueError(f"{file}: qid {qid!r} has no 'pred_saliency_scores', which the server scores")
            if qid in qids:
                raise ValueError(f"{file}: 'qid' {qid!r} is also in {qids[qid]}; expected two splits")
        qids |= {record["qid"]: str(file) for record in records}
        # Written anew: the server takes neither a byte order mark nor encodings other than UTF-8.
        lines[split] = [json.dumps(record) + "\n" for record in records]
    with atomic_file(path) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
        for split, name in NAMES.items():
            archive.writestr(name, "".join(lines[split]), zipfile.ZIP_DEFLATED)
    return {split: len(of_split) for split, of_split in lines.items()}
