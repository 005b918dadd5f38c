# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The published files of TACoS, Charades-CG and Charades-CD."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mesm_plugin.datasets import CharadesCDDataset, CharadesCGDataset, TACoSDataset, Vocabulary
from mesm_plugin.datasets.text.words import split_words

CASES = {
    # File: class, videos, queries, dropped, cut.
    "TACoS/train": (TACoSDataset, 75, 9790, 0, 43),
    "TACoS/val": (TACoSDataset, 27, 4436, 0, 0),
    "TACoS/test": (TACoSDataset, 25, 4001, 0, 5),
    "Charades-CG/train": (CharadesCGDataset, 3555, 8281, 0, 1255),
    "Charades-CG/test_trivial": (CharadesCGDataset, 1689, 3096, 0, 412),
    "Charades-CG/novel_composition": (CharadesCGDataset, 2480, 3442, 0, 452),
    "Charades-CG/novel_word": (CharadesCGDataset, 580, 695, 0, 109),
    "Charades-CD/charades_train": (CharadesCDDataset, 4564, 11071, 0, 1652),
    "Charades-CD/charades_val": (CharadesCDDataset, 333, 859, 0, 135),
    "Charades-CD/charades_test_iid": (CharadesCDDataset, 333, 823, 0, 151),
    "Charades-CD/charades_test_ood": (CharadesCDDataset, 1440, 3372, 3, 345),
}


@pytest.fixture
def load(shared: Path, constant_features: Any, length_text: Any) -> Any:
    """Makes the data set of a published split, one item a video."""

    def make(name: str, **options: Any) -> Any:
        parts = {"features": constant_features, "text": length_text, "clip_length": None, "max_queries": None}
        return CASES[name][0](ann_file=str(shared / "data" / f"{name}.json"), **parts | options)

    return make


def _infos(dataset: Any) -> list[dict[str, Any]]:
    return [dataset.get_data_info(index) for index in range(len(dataset))]


@pytest.mark.parametrize("name", CASES)
def test_counts(load: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr("mesm_plugin.datasets.json_dataset.print_log", lambda line, **_: lines.append(line))
    _, videos, queries, dropped, cut = CASES[name]
    infos = _infos(load(name))
    assert len(infos) == videos
    assert sum(len(info["queries"]) for info in infos) == queries
    assert lines[0].endswith(
        f"{queries} queries of {videos} videos; {dropped} starting beyond the video dropped, 0 empty sentences "
        f"dropped, 0 swapped ends exchanged, {cut} late ends cut"
    )
    moments = np.array([query["moments"][0] for info in infos for query in info["queries"]])
    durations = np.array([info["duration"] for info in infos for _ in info["queries"]])
    assert (moments[:, 0] < moments[:, 1]).all()
    assert (moments >= 0).all()
    assert (moments <= durations[:, None]).all()
    assert (moments[:, 1] == durations).sum() >= cut


@pytest.mark.parametrize(("split", "items"), [("train", 1016), ("val", 456), ("test", 410)])
def test_items_of_tacos(load: Any, split: str, items: int) -> None:
    videos = {info["vid"]: info["queries"] for info in _infos(load(f"TACoS/{split}"))}
    infos = _infos(load(f"TACoS/{split}", max_queries=10))
    assert len(infos) == items == sum(-(-len(queries) // 10) for queries in videos.values())
    found: dict[str, list[Any]] = {vid: [] for vid in videos}
    for info in infos:
        found[info["vid"]] += [query["qid"] for query in info["queries"]]
    for vid, queries in videos.items():
        assert sorted(found[vid]) == sorted(query["qid"] for query in queries)


def test_what_the_released_evaluator_was_given_on_tacos(shared: Path, load: Any) -> None:
    file = shared / "golden" / "metrics" / "tacos_test" / "ground_truth.jsonl"
    if not file.is_file():
        pytest.skip(f"no {file}; set MESM_SHARED to the folder with data/ and golden/")
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    found = {
        query["qid"]: (info["vid"], query["sentence"], info["duration"], query["moments"])
        for info in _infos(load("TACoS/test"))
        for query in info["queries"]
    }
    assert len(records) == 400
    for record in records:
        expected = (record["vid"], record["query"], record["duration"], record["relevant_windows"])
        assert found[f"test-{record['qid']}"] == expected


def test_splits_share_no_videos_with_the_training_split(load: Any) -> None:
    for names in (
        ("TACoS/train", "TACoS/val", "TACoS/test"),
        ("Charades-CD/charades_train", *(f"Charades-CD/charades_{split}" for split in ("val", "test_iid", "test_ood"))),
        ("Charades-CG/train", *(f"Charades-CG/{s}" for s in ("test_trivial", "novel_composition", "novel_word"))),
    ):
        train, *others = ({info["vid"] for info in _infos(load(name))} for name in names)
        assert all(train.isdisjoint(videos) for videos in others)


def test_holdout_of_charades_cg(load: Any) -> None:
    train, val = (_infos(load("Charades-CG/train", holdout=part)) for part in ("train", "val"))
    assert (len(train), len(val)) == (3210, 345)


def test_published_vocabulary_of_tacos(shared: Path, load: Any) -> None:
    vocabulary = Vocabulary.from_file(shared / "data" / "TACoS" / "GloVe_tokenized_count.txt", 1111)
    words = [
        word
        for info in _infos(load("TACoS/train"))
        for query in info["queries"]
        for word in split_words(query["sentence"])
    ]
    assert np.mean([vocabulary.label(word) < 1111 for word in words]) > 0.9
