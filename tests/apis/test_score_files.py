# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path
from typing import Any

import pytest

from mesm_plugin.apis.score_files import score_files

LABEL = {"qid": 1, "vid": "a", "query": "One.", "duration": 20, "relevant_windows": [[0, 10]]}
GRADES = {"relevant_clip_ids": [1, 2], "saliency_scores": [[4, 1, 2], [0, 0, 3]]}
PREDICTION = {"qid": 1, "vid": "a", "query": "One.", "pred_relevant_windows": [[0, 5, 0.9]]}


def _write(folder: Path, name: str, *records: Any, end: str = "\n", start: bytes = b"") -> Path:
    (folder / name).write_bytes(start + ("\n".join(map(json.dumps, records)) + end).encode())
    return folder / name


def test_scores_of_each_file(tmp_path: Path) -> None:
    submission = _write(tmp_path, "submission.jsonl", PREDICTION, PREDICTION | {"qid": 2})
    files = [_write(tmp_path, "one.jsonl", LABEL), _write(tmp_path, "two.jsonl", LABEL | {"qid": 2})]
    scored = score_files(submission, files, r1_thresholds=[0.5])
    assert [scored.scores[name]["mIoU"] for name in ("one", "two")] == [50, 50]
    assert (scored.queries, scored.notice) == ({"one": 1, "two": 1}, None)


@pytest.mark.parametrize("end", ["", "\n\n", "\r\n", "\n \n\t\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_blank_lines_at_the_end_and_a_byte_order_mark(tmp_path: Path, end: str, start: bytes) -> None:
    submission = _write(tmp_path, "submission.jsonl", PREDICTION, end=end, start=start)
    assert score_files(submission, [_write(tmp_path, "one.jsonl", LABEL)]).scores["one"]["mIoU"] == 50


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"duration": None}, "'duration' is None, expected seconds > 0"),
        ({"duration": float("nan")}, "'duration' is nan"),
        ({"relevant_windows": [[4, 4]]}, "'relevant_windows' is [[4, 4]], expected a list of [start, end]"),
        ({"relevant_windows": [[0, float("inf")]]}, "'relevant_windows' is"),
        ({"relevant_windows": [["0", 1]]}, "'relevant_windows' is"),
        ({"relevant_windows": []}, "qid 1 has no 'relevant_windows'"),
        ({"vid": ["a"]}, "'vid' or 'query' is no text"),
        ({"qid": True}, "expected a JSON object with a 'qid'"),
        (GRADES | {"relevant_clip_ids": [1, -2]}, "'relevant_clip_ids' is [1, -2], expected a list of indices"),
        (GRADES | {"relevant_clip_ids": [1]}, "expected the grades of each of the 1 clips"),
        (GRADES | {"saliency_scores": [[4, 1], [0]]}, "'saliency_scores' is [[4, 1], [0]]"),
    ],
)
def test_broken_labels_are_named(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    labels = _write(tmp_path, "one.jsonl", LABEL | {"qid": 0}, LABEL | changes)
    with pytest.raises(ValueError, match="one.jsonl:2") as error:
        score_files(_write(tmp_path, "submission.jsonl", PREDICTION), [labels])
    assert str(error.value).startswith(f"{labels}:2: ")
    assert problem in str(error.value)


def test_ids_that_occur_twice(tmp_path: Path) -> None:
    submission = _write(tmp_path, "submission.jsonl", PREDICTION)
    with pytest.raises(ValueError, match=r"one\.jsonl:2: 'qid' 1 is also in line 1"):
        score_files(submission, [_write(tmp_path, "one.jsonl", LABEL, LABEL)])
    files = [_write(tmp_path, "one.jsonl", LABEL), _write(tmp_path, "two.jsonl", LABEL)]
    with pytest.raises(ValueError, match="one and two both have a query 1, so that one submission cannot be of both"):
        score_files(submission, files)


def test_grades_of_some_queries_only(tmp_path: Path) -> None:
    labels = _write(tmp_path, "one.jsonl", LABEL, LABEL | {"qid": 2} | GRADES)
    with pytest.raises(ValueError, match=r"one\.jsonl: 1 of 2 queries have 'saliency_scores', such as 2; expected all"):
        score_files(_write(tmp_path, "submission.jsonl", PREDICTION), [labels])


def test_what_does_not_match_names_both_files(tmp_path: Path) -> None:
    submission = _write(tmp_path, "submission.jsonl", PREDICTION, PREDICTION | {"qid": 9})
    with pytest.raises(ValueError, match=r"submission\.jsonl on .*one\.jsonl: qid 9 of the submission \(1 of 2"):
        score_files(submission, [_write(tmp_path, "one.jsonl", LABEL)])
