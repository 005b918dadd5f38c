# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest

from mesm_plugin.datasets.feature_packing import Needed, check_completeness, read_needed
from mesm_plugin.datasets.feature_packing.completeness import odd_lengths


@pytest.fixture
def needed() -> Needed:
    """Two videos, of 10 and 20.5 seconds, with queries 9, 10 and 11."""
    needed = Needed()
    queries = [{"qid": qid, "sentence": f"sentence {qid}"} for qid in (9, 10, 11)]
    needed.add("train", [{"vid": "a", "duration": 10.0, "queries": queries[:2]}])
    needed.add("test", [{"vid": "b", "duration": 20.5, "queries": queries[2:]}])
    return needed


def test_missing_and_extra(needed: Needed) -> None:
    videos = check_completeness(["b", "c"], needed)
    assert (videos.kind, videos.needed, videos.missing, videos.extra) == ("video", 2, ["a"], ["c"])
    queries = check_completeness(["11", "12"], needed)
    assert (queries.kind, queries.needed, queries.missing, queries.extra) == ("query", 3, ["9", "10"], ["12"])
    assert check_completeness(["b"], needed, "query").missing == ["9", "10", "11"]


def test_ids_of_queries_that_splits_share(needed: Needed) -> None:
    needed.add("other", [{"vid": "b", "duration": 20.5, "queries": [{"qid": 9, "sentence": "another"}]}])
    assert check_completeness(["a", "b"], needed).missing == []
    with pytest.raises(ValueError, match=r"query 9 is another sentence in each of train, test, other, .*\(--split\)"):
        check_completeness(["9"], needed)


def test_odd_lengths(needed: Needed) -> None:
    assert odd_lengths({"a": 5, "b": 10, "c": 99}, needed.durations, 2.0) == []
    assert odd_lengths({"a": 7, "b": 8}, needed.durations, 2.0) == ["b"]
    assert odd_lengths({"a": 7, "b": 8}, needed.durations, 1.0) == ["a", "b"]


def test_annotation_files(tmp_path: Path) -> None:
    files = {
        "highlight_test_release.jsonl": json.dumps({"qid": 7, "query": "x y", "duration": 150, "vid": "s_60.0_210.0"}),
        "tacos.json": json.dumps(
            {"t.avi": {"timestamps": [[0, 29]], "sentences": ["x"], "fps": 29.0, "num_frames": 290}}
        ),
        "novel_word.json": json.dumps({"g": {"timestamps": [[0, 2]], "sentences": ["x"], "duration": 30.0}}),
        "charades_test_ood.json": json.dumps(
            {"d": {"timestamps": [[0, 2]], "sentences": ["x"], "video_duration": 9.0}}
        ),
        "charades_sta_test.txt": "c 0.0 2.0##x",
        "Charades_v1_test.csv": "id,length\nc,40.0",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content + "\n", encoding="utf-8")
    needed = read_needed(files=[tmp_path / name for name in files])
    assert needed.durations == {"s_60.0_210.0": 150, "t.avi": 10, "g": 30, "d": 9, "c": 40}
    assert list(needed.sentences) == ["7", "tacos-1", "novel_word-1", "charades_test_ood-1", "0"]
    # The durations beside a file are found without being named.
    assert read_needed(files=[tmp_path / "charades_sta_test.txt"]).durations == {"c": 40}
    (tmp_path / "a.xml").touch()
    with pytest.raises(ValueError, match=r"--annotations .*a\.xml: expected a file of the kind"):
        read_needed(files=[tmp_path / "a.xml"])
    (tmp_path / "tacos.json").write_text(json.dumps({"s.avi": [], "t.avi": {"fps": 29.0}}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"tacos\.json: video 's\.avi': expected a JSON object"):
        read_needed(files=[tmp_path / "tacos.json"])
    (tmp_path / "tacos.json").write_text(json.dumps({"s.avi": {}, "t.avi": {"fps": 29.0}}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"tacos\.json: video 's\.avi': 'fps' is missing"):
        read_needed(files=[tmp_path / "tacos.json"])
    with pytest.raises(FileNotFoundError, match=r"annotation file not found: .*gone\.json"):
        read_needed(files=[tmp_path / "gone.json"])


def test_published_data_sets(shared: Path) -> None:
    for name, videos, queries in (("tacos", 127, 18227), ("Charades-CG", 6594, 15514), ("QVHighlights", 10148, 10310)):
        needed = read_needed(name, shared / "data")
        assert (len(needed.durations), len(needed.sentences)) == (videos, queries)
        assert needed.ambiguous == []
    needed = read_needed("charades_sta", shared / "data")
    assert len(needed.durations) == 6670
    assert needed.ambiguous
    assert len(read_needed("charades", shared / "data", ["test"]).sentences) == 3720
