# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mesm_plugin.datasets import QVHighlightsDataset, collate_grounding
from mesm_plugin.datasets.qvhighlights_record import parse_record

RECORD: dict[str, Any] = {
    "qid": 1,
    "query": "A man eats.",
    "duration": 20,
    "vid": "x_y_60.0_210.0",
    "relevant_clip_ids": [0, 1, 4, 5, 9],
    "saliency_scores": [[4, 3, 2], [0, 0, 0], [1, 2, 3], [4, 4, 4], [2, 2, 2]],
    "relevant_windows": [[0, 4], [8, 12], [18, 20]],
}
LATER = {**RECORD, "qid": 2, "vid": "x_y_210.0_360.0"}
UNLABELLED = {key: RECORD[key] for key in ("qid", "query", "duration", "vid")}

Load = Callable[..., QVHighlightsDataset]


@pytest.fixture
def load(write_text: Callable[[str, str], str], constant_features: Any, length_text: Any) -> Load:
    """Makes the data set of some records; the features have 10 clips."""

    def make(*records: dict[str, Any], **options: Any) -> QVHighlightsDataset:
        lines = "".join(json.dumps(record) + "\n" for record in records)
        arguments = {"features": constant_features, "text": length_text} | options
        return QVHighlightsDataset(ann_file=write_text("highlight_train_release.jsonl", lines), **arguments)

    return make


def _infos(dataset: QVHighlightsDataset) -> list[dict[str, Any]]:
    return [dataset.get_data_info(index) for index in range(len(dataset))]


def test_sequences_of_a_source_follow_one_another_by_start(load: Load) -> None:
    other = {**RECORD, "qid": "other", "vid": "z_0.0_150.0"}
    dataset = load(LATER, other, RECORD, {**LATER, "qid": 3, "query": "Second."})
    infos = _infos(dataset)
    assert [(info["vid"], info["source"]) for info in infos] == [
        ("x_y_60.0_210.0", "x_y"),
        ("x_y_210.0_360.0", "x_y"),
        ("z_0.0_150.0", "z"),
    ]
    assert [[query["qid"] for query in info["queries"]] for info in infos] == [[1], [2, 3], ["other"]]
    sample = dataset[1]["data_sample"]
    assert (sample.vid, sample.source, sample.duration, sample.qids) == ("x_y_210.0_360.0", "x_y", 20.0, [2, 3])
    assert sample.sentences == ["A man eats.", "Second."]


def test_labels_of_an_item(load: Load) -> None:
    item = load(RECORD)[0]
    (query,) = item["queries"]
    np.testing.assert_allclose(query["moments"], [[0, 0.2], [0.4, 0.6], [0.9, 1]])
    # The clip that all annotators graded 0 is inside the moment.
    assert query["segment_mask"].tolist() == [True, True, False, False, True, True, False, False, False, True]
    assert query["saliency"].tolist() == [9, 0, 0, 0, 6, 12, 0, 0, 0, 6]
    assert query["extreme_clips"].tolist() == [5, 1]
    sample = item["data_sample"]
    assert sample.gt_moments[0].tolist() == RECORD["relevant_windows"]
    assert sample.gt_clips[0].tolist() == RECORD["relevant_clip_ids"]
    assert sample.gt_grades[0].tolist() == RECORD["saliency_scores"]


def test_features_of_fewer_clips(load: Load) -> None:
    # The features have 10 clips, the annotations 11.
    record = {**RECORD, "duration": 22, "relevant_clip_ids": [0, 1, 4, 9, 10], "relevant_windows": [[0, 22]]}
    (query,) = load(record)[0]["queries"]
    assert query["segment_mask"].nonzero().flatten().tolist() == [0, 1, 4, 9]
    assert query["saliency"].tolist() == [9, 0, 0, 0, 6, 0, 0, 0, 0, 12]
    # The clips cover 20 of 22 s.
    np.testing.assert_allclose(query["moments"], [[0, 1.1]])


def test_longer_features_are_cut_off(load: Load) -> None:
    item = load(RECORD, max_clips=8)[0]
    assert item["video"][:, 0].tolist() == list(range(8))
    assert item["video"][-1, 2:].tolist() == [7 / 8, 1]
    assert item["queries"][0]["segment_mask"].nonzero().flatten().tolist() == [0, 1, 4, 5]
    np.testing.assert_allclose(item["queries"][0]["moments"], [[0, 0.25], [0.5, 0.75], [1.125, 1.25]])
    assert item["data_sample"].num_clips == 8


def test_unlabelled_split(load: Load) -> None:
    item = load(UNLABELLED, {**UNLABELLED, "qid": 2})[0]
    assert item["queries"][0].keys() == {"words", "words_weight"}
    assert not {"gt_moments", "gt_clips", "gt_grades"} & set(item["data_sample"].metainfo_keys())
    inputs = collate_grounding([item], training=False)["inputs"]
    assert inputs["query_video"].tolist() == [0, 0]
    assert "moments" not in inputs


def test_negative_queries_are_of_other_sources(load: Load) -> None:
    others = [{**RECORD, "qid": 10 + i, "vid": f"s{i}_0.0_20.0"} for i in range(3)]
    dataset = load(RECORD, LATER, {**LATER, "qid": 3}, *others)
    batch = [dataset[index] for index in range(len(dataset))]
    inputs = collate_grounding(batch, training=True)["inputs"]
    source = inputs["source"][inputs["query_video"]]
    assert source.tolist() == [0, 0, 0, 1, 2, 3]
    assert (source[inputs["pair_query"][6:]] != source).all()


def test_survives_pickling(load: Load) -> None:
    dataset = load(RECORD, LATER)
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[1]["queries"][0]["saliency"], dataset[1]["queries"][0]["saliency"])
    assert copy[1]["data_sample"].vid == "x_y_210.0_360.0"


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("qid", None, "'qid' is None, expected a number or a name"),
        ("qid", True, "'qid' is True, expected a number or a name"),
        ("query", " ... ", "'query' is ' ... ', expected a sentence with at least one word"),
        ("query", 3, "'query' is 3, expected a sentence"),
        ("duration", "150", "'duration' is '150', expected seconds, at least 2, which is one clip"),
        ("duration", 1, "'duration' is 1, expected seconds, at least 2"),
        ("duration", float("nan"), "'duration' is nan, expected seconds"),
        ("vid", "name", "'vid' is 'name', expected the form 'source_start_end'"),
        ("vid", "name_a_b", "'vid' is 'name_a_b', expected the form"),
        ("vid", "name_1_x", "'vid' is 'name_1_x', expected the form"),
        ("vid", "name_10_5", "'vid' is 'name_10_5', expected the form"),
        ("vid", "name_inf_5", "'vid' is 'name_inf_5', expected the form"),
        ("duration", 10**400, r"'duration' is 10*\.\.\., expected seconds"),
        ("vid", None, "'vid' is None, expected the form"),
        ("relevant_windows", [], r"'relevant_windows' is \[\], expected a list of \[start, end\]"),
        (
            "relevant_windows",
            [[4, 4]],
            r"'relevant_windows' is \[\[4, 4\]\], expected .* 0 <= start < end <= 20 seconds",
        ),
        ("relevant_windows", [[5, 4]], r"'relevant_windows' is \[\[5, 4\]\], expected"),
        ("relevant_windows", [[0, 21]], r"'relevant_windows' is \[\[0, 21\]\], expected"),
        ("relevant_windows", [[-1, 2]], r"'relevant_windows' is \[\[-1, 2\]\], expected"),
        ("relevant_windows", [[0, 2, 3]], r"'relevant_windows' is \[\[0, 2, 3\]\], expected"),
        ("relevant_windows", 7, "'relevant_windows' is 7, expected"),
        ("relevant_clip_ids", [0, 1, 4, 5, 10], r"'relevant_clip_ids' is .*10\], expected .* of the 10 clips of 2 sec"),
        ("relevant_clip_ids", [0, 1, 4, 5, 5], "'relevant_clip_ids' .* expected a list of different indices"),
        ("relevant_clip_ids", [0, 1, 4, 5, -1], "'relevant_clip_ids' is"),
        ("relevant_clip_ids", [0, 1, 4, 5, 6.0], "'relevant_clip_ids' is"),
        ("relevant_clip_ids", None, "'relevant_clip_ids' is None, expected"),
        (
            "saliency_scores",
            [[1, 1, 1]],
            r"'saliency_scores' is \[\[1, 1, 1\]\], expected 3 grades from 0 to 4 for each of",
        ),
        ("saliency_scores", [[1, 1, 5]] * 5, "'saliency_scores' is .* expected 3 grades from 0 to 4"),
        ("saliency_scores", [[1, 1]] * 5, "'saliency_scores' is .* each of the 5 relevant_clip_ids"),
    ],
)
def test_bad_values(load: Load, key: str, value: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=rf"highlight_train_release\.jsonl:2: {problem}"):
        load(LATER, {**RECORD, key: value})


@pytest.mark.parametrize("key", RECORD)
def test_missing_keys(key: str) -> None:
    record = {name: value for name, value in RECORD.items() if name != key}
    with pytest.raises(ValueError, match=f"file:7: '{key}' is missing, expected"):
        parse_record(record, "file:7", 2.0)


def test_lines_that_contradict_each_other(load: Load) -> None:
    with pytest.raises(ValueError, match=r"jsonl:3: 'qid' is 1 as on line 1, expected another id"):
        load(RECORD, LATER, {**RECORD, "query": "Again."})
    with pytest.raises(ValueError, match=r"jsonl:2: 'duration' is 30, but 20 above for x_y_60\.0_210\.0"):
        load(RECORD, {**RECORD, "qid": 2, "duration": 30})
    with pytest.raises(ValueError, match=r"jsonl:2: 'relevant_windows' is missing, unlike on the lines above; split"):
        load(RECORD, {**UNLABELLED, "qid": 2})
    with pytest.raises(ValueError, match=r"jsonl:2: 'relevant_windows' is there, unlike on the lines above; split"):
        load(UNLABELLED, LATER)


def test_files_that_are_none(
    write_text: Callable[[str, str], str], constant_features: Any, length_text: Any, tmp_path: Path
) -> None:
    parts = {"features": constant_features, "text": length_text}
    with pytest.raises(ValueError, match=r"a\.jsonl:2: not a line of JSON .*; is the file complete\?"):
        QVHighlightsDataset(ann_file=write_text("a.jsonl", json.dumps(RECORD) + '\n{"qid": 2, "que'), **parts)
    with pytest.raises(ValueError, match=r"a\.jsonl:1: expected a JSON object with a query, got list"):
        QVHighlightsDataset(ann_file=write_text("a.jsonl", "[1]\n"), **parts)
    with pytest.raises(ValueError, match=r"no query is left of .*a\.jsonl"):
        QVHighlightsDataset(ann_file=write_text("a.jsonl", ""), **parts)
    with pytest.raises(FileNotFoundError, match=r"annotation file not found: .*gone\.jsonl"):
        QVHighlightsDataset(ann_file=str(tmp_path / "gone.jsonl"), **parts)
    with pytest.raises(ValueError, match="clip_length is None, expected the seconds of an annotated clip"):
        QVHighlightsDataset(ann_file="a.jsonl", clip_length=None, **parts)


@pytest.mark.parametrize(
    ("split", "sources", "sequences", "queries", "moments", "clips", "grades"),
    [
        ("train", 2214, 7100, 7218, 12803, 160573, 1434092),
        ("val", 474, 1519, 1550, 2803, 32549, 286221),
        ("test", 476, 1529, 1542, 0, 0, 0),
    ],
)
def test_published_files(
    shared: Path,
    constant_features: Any,
    length_text: Any,
    split: str,
    sources: int,
    sequences: int,
    queries: int,
    moments: int,
    clips: int,
    grades: int,
) -> None:
    constant_features.features = np.ones((75, 1), dtype=np.float32)
    dataset = QVHighlightsDataset(
        data_root=str(shared / "data" / "qvhighlights"),
        ann_file=f"highlight_{split}_release.jsonl",
        features=constant_features,
        text=length_text,
    )
    infos = _infos(dataset)
    asked = [query for info in infos for query in info["queries"]]
    assert (len({info["source"] for info in infos}), len(infos), len(asked)) == (sources, sequences, queries)
    assert sum(len(query.get("moments", ())) for query in asked) == moments
    # The moments are unions of graded clips.
    seconds = sum(end - start for query in asked for start, end in query.get("moments", ()))
    assert seconds == 2 * sum(len(query.get("relevant_clips", ())) for query in asked) == 2 * clips
    items = [query for index in range(0, len(dataset)) for query in dataset[index]["queries"]]
    if moments:
        assert sum(float(query["saliency"].sum()) for query in items) == grades
        assert sum(int(query["segment_mask"].sum()) for query in items) == clips
        assert sum(len(query["moments"]) > 5 for query in items) == {"train": 261, "val": 63}[split]
    else:
        assert all("moments" not in query for query in items)
