# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest

from mesm_plugin.evaluation.submission import write_submission


def test_one_line_a_record_in_a_new_folder(tmp_path):
    path = tmp_path / "results" / "submission.jsonl"
    write_submission([{"qid": np.int64(3), "pred_relevant_windows": np.array([[0.0, 1.5, 0.25]])}, {"qid": "b"}], path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"qid": 3, "pred_relevant_windows": [[0.0, 1.5, 0.25]]},
        {"qid": "b"},
    ]
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "submission.jsonl"
    path.write_text("old")
    with pytest.raises(ValueError, match=r"qid 4: its predictions hold NaN or infinity"):
        write_submission([{"qid": 3}, {"qid": 4, "pred_saliency_scores": [float("nan")]}], path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
