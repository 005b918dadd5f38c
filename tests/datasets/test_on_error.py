# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Broken videos and queries among good ones, in every data set: stop or leave them out."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mesm_plugin.datasets import (
    CharadesCGDataset,
    CharadesSTADataset,
    MissingFeaturesError,
    NumpyFeatureStore,
    PreExtractedText,
    QVHighlightsDataset,
    TACoSDataset,
)

WriteText = Callable[[str, str], str]


def _videos(dataset: Any) -> dict[str, list[Any]]:
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return {info["vid"]: [query["qid"] for query in info["queries"]] for info in infos}


@pytest.fixture
def charades(write_text: WriteText, constant_features: Any, length_text: Any) -> Callable[..., CharadesSTADataset]:
    """Three videos with two sentences each, "a", "b" and "c"; further lines can be added."""

    def make(further: str = "", durations: str = "", **options: Any) -> CharadesSTADataset:
        lines = "".join(f"{vid} {start} {start + 2}##person {vid}\n" for start in (1, 3) for vid in "abc")
        return CharadesSTADataset(
            ann_file=write_text("train.txt", lines + further),
            duration_file=write_text("train.csv", "id,length\na,10\nb,10\nc,10\n" + durations),
            clip_length=1.0,
            **({"features": constant_features, "text": length_text} | options),
        )

    return make


ALL = {"a": [0, 3], "b": [1, 4], "c": [2, 5]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Features of videos a, b and c, 10 clips of 2 channels, one file a video."""
    (tmp_path / "clips").mkdir()
    for vid in "abc":
        np.save(tmp_path / "clips" / f"{vid}.npy", np.ones((10, 2)))
    return tmp_path / "clips"


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:90])


BREAK: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (_truncate, r"b\.npy is truncated or is not a NumPy file"),
    "empty": (lambda path: path.write_bytes(b""), r"b\.npy is truncated or is not a NumPy file"),
    "NaN": (lambda path: np.save(path, [[1, 2], [1, np.nan]]), r"b\.npy: nan in clip 1, channel 1 \(1 of 2 clips"),
    "huge": (lambda path: np.save(path, [[1, 1e39]]), r"b\.npy: inf in clip 0, channel 1"),
    "width": (lambda path: np.save(path, np.ones((4, 3))), r"b\.npy: the features have 3 channels, expected 2"),
    "shape": (lambda path: np.save(path, np.ones(4)), r"b\.npy: expected shape \(clips, channels\), got \(4,\)"),
    "no clips": (lambda path: np.save(path, np.ones((0, 2))), r"b\.npy: the features are empty"),
    "text": (lambda path: np.save(path, np.array([["x", "y"]])), r"b\.npy: expected real numbers, got dtype <U1"),
    "twice": (lambda path: np.savez(path.with_suffix(".npz"), np.ones((2, 2))), r"b\.npz and b\.npy both hold b"),
    "missing": (Path.unlink, r"clips has no features of video b \(it holds 2 videos\)"),
}


@pytest.mark.parametrize("name", BREAK)
def test_broken_features_of_a_video(name: str, folder: Path, charades: Callable[..., CharadesSTADataset]) -> None:
    store = NumpyFeatureStore(folder, dims=[2])
    assert _videos(charades(features=store)) == ALL
    damage, message = BREAK[name]
    damage(folder / "b.npy")
    others = {"missing": "annotated videos have no features", "twice": message}
    of_all = others.get(name, rf"1 of 3 videos and 0 .*video b.*{message}")
    with pytest.raises((ValueError, MissingFeaturesError), match=of_all):
        charades(features=store)
    dataset = charades(features=store, on_error="skip")
    assert _videos(dataset) == {"a": [0, 3], "c": [2, 5]}
    assert [item["data_sample"].vid for item in dataset] == ["a", "c"]
    assert [item["sample_idx"] for item in dataset] == [0, 1]
    assert list(dataset.left_out) == ["video b"]
    assert re.search(message, dataset.left_out["video b"])


def test_a_video_that_no_file_can_be_called_by(folder: Path, charades: Callable[..., CharadesSTADataset]) -> None:
    long = "v" * 300
    dataset = charades(f"{long} 1 3##a door\n", f"{long},10\n", features=NumpyFeatureStore(folder), on_error="skip")
    assert _videos(dataset) == ALL
    assert "File name too long" in dataset.left_out[f"video {long}"]


def test_all_features_are_broken(folder: Path, charades: Callable[..., CharadesSTADataset]) -> None:
    with pytest.raises(ValueError, match=r"none of 3 videos can be used: video a .*expected 5\), video b "):
        charades(features=NumpyFeatureStore(folder, dims=[5]), on_error="skip")


def test_several_problems_come_in_one_message(folder: Path, charades: Callable[..., CharadesSTADataset]) -> None:
    _truncate(folder / "a.npy")
    np.save(folder / "c.npy", np.full((3, 2), np.inf))
    store = NumpyFeatureStore(folder)
    with pytest.raises(ValueError, match=r"2 of 3 videos and 1 of 7 queries cannot be used: .*a .*c .*'b <unk>'"):
        charades("b 5 6##b <unk>\n", features=store)
    dataset = charades("b 5 6##b <unk>\n", features=store, on_error="skip")
    assert _videos(dataset) == {"b": [1, 4]}
    assert list(dataset.left_out) == ["video a", "video c", "query 6"]


def test_a_video_without_a_usable_query_is_left_out(charades: Callable[..., CharadesSTADataset]) -> None:
    dataset = charades("d 5 6##<unk>\n", "d,9\n", on_error="skip")
    assert _videos(dataset) == ALL
    assert list(dataset.left_out) == ["query 6"]


def test_broken_words_of_a_query(charades: Callable[..., CharadesSTADataset], write_hdf5: Callable[..., str]) -> None:
    words = {str(qid): np.ones((3, 4)) for qid in range(6)} | {"3": np.full((3, 4), np.nan)}
    del words["5"]
    text = PreExtractedText(write_hdf5("words.hdf5", **words))
    with pytest.raises(ValueError, match=r"0 of 3 videos and 2 of 6 queries cannot be used: query 5.*query 3 .*nan in"):
        charades(text=text)
    assert _videos(charades(text=text, on_error="skip")) == {"a": [0], "b": [1, 4], "c": [2]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("c five 6##person c\n", r"train\.txt:7: the moment is five to 6, expected two numbers"),
        ("c 5 6\n", r"train\.txt:7: 'c 5 6' is not of the form"),
        ("d 5 6##person d\n", r"train\.txt:7: video d has no duration"),
        ("c nan 6##person c\n", r"train\.txt:7: the moment is nan to 6"),
    ],
)
def test_broken_line_of_charades_sta(charades: Callable[..., CharadesSTADataset], line: str, message: str) -> None:
    further = line + "a 5 7##person a\n"
    with pytest.raises(ValueError, match=message):
        charades(further)
    dataset = charades(further, on_error="skip")
    assert _videos(dataset) == ALL | {"a": [0, 3, 7]}
    ((place, problem),) = dataset.left_out.items()
    assert place.endswith("train.txt:7")
    assert re.search(message, problem)


def test_broken_duration(charades: Callable[..., CharadesSTADataset]) -> None:
    further = "d 5 6##person d\n"
    with pytest.raises(ValueError, match=r"train\.csv:5: the length of video d is 'x', expected seconds > 0"):
        charades(further, "d,x\n")
    dataset = charades(further, "d,x\n", on_error="skip")
    assert _videos(dataset) == ALL
    assert [place.rpartition("/")[2] for place in dataset.left_out] == ["train.csv:5, video d", "train.txt:7"]


def test_everything_is_broken(charades: Callable[..., CharadesSTADataset], write_text: WriteText) -> None:
    with pytest.raises(ValueError, match=r"no query is left of .*train\.txt; left out: .*train\.txt:1: "):
        CharadesSTADataset(
            ann_file=write_text("train.txt", "a 1 2\n"),
            duration_file=write_text("train.csv", "id,length\na,10\n"),
            clip_length=1.0,
            features=None,
            text=None,
            on_error="skip",
        )


@pytest.mark.parametrize(
    "entry", [7, {"duration": "x"}, {"duration": 10.0, "timestamps": [[1, 2]], "sentences": [None]}]
)
def test_broken_entry_of_a_json_file_keeps_the_numbers_of_the_others(
    entry: Any, write_text: WriteText, constant_features: Any, length_text: Any
) -> None:
    good = {"duration": 10.0, "timestamps": [[1, 2], [3, 4]], "sentences": ["one", "two"]}
    file = write_text("novel.json", json.dumps({"a": good, "broken": entry, "c": good}))
    arguments: dict[str, Any] = {"features": constant_features, "text": length_text, "clip_length": 1.0}
    with pytest.raises(ValueError, match="video 'broken'"):
        CharadesCGDataset(ann_file=file, **arguments)
    dataset = CharadesCGDataset(ann_file=file, **arguments, on_error="skip")
    shift = len(entry.get("sentences", [])) if isinstance(entry, dict) else 0
    assert _videos(dataset) == {"a": ["novel-1", "novel-2"], "c": [f"novel-{3 + shift}", f"novel-{4 + shift}"]}
    assert [place.rpartition(": ")[2] for place in dataset.left_out] == ["video 'broken'"]


def test_broken_video_of_many_queries_leaves_all_its_items(
    write_text: WriteText, constant_features: Any, length_text: Any
) -> None:
    def entry(queries: int) -> dict[str, Any]:
        return {"fps": 10, "num_frames": 100, "timestamps": [[10, 20]] * queries, "sentences": ["cut"] * queries}

    file = write_text("train.json", json.dumps({"a": entry(3), "lost": entry(25)}))
    dataset = TACoSDataset(
        ann_file=file, features=constant_features, text=length_text, clip_length=None, on_error="skip"
    )
    assert len(dataset) == 1
    assert list(dataset.left_out) == ["video lost"]


@pytest.mark.parametrize("line", ["{", '{"qid": 2}', "7", '{"qid": 1, "qid": 1}'])
def test_broken_line_of_qvhighlights(
    line: str, write_text: WriteText, constant_features: Any, length_text: Any
) -> None:
    def record(qid: int) -> str:
        labels = {"relevant_windows": [[0, 2]], "relevant_clip_ids": [0], "saliency_scores": [[1, 2, 3]]}
        return json.dumps({"qid": qid, "query": "a door", "vid": "x_0.0_20.0", "duration": 20, **labels})

    file = write_text("train.jsonl", "\n".join([record(1), line, record(3)]) + "\n")
    arguments: dict[str, Any] = {"ann_file": file, "features": constant_features, "text": length_text}
    with pytest.raises(ValueError, match=r"train\.jsonl:2"):
        QVHighlightsDataset(**arguments)
    dataset = QVHighlightsDataset(**arguments, on_error="skip")
    assert _videos(dataset) == {"x_0.0_20.0": [1, 3]}
    assert [place.rpartition("/")[2] for place in dataset.left_out] == ["train.jsonl:2"]


def test_a_file_that_is_broken_as_a_whole_is_an_error(
    write_text: WriteText, constant_features: Any, length_text: Any
) -> None:
    arguments: dict[str, Any] = {"features": constant_features, "text": length_text, "clip_length": 1.0}
    with pytest.raises(ValueError, match=r"train\.json:1: not JSON"):
        CharadesCGDataset(ann_file=write_text("train.json", '{"a":'), **arguments, on_error="skip")


def test_unknown_choice(charades: Callable[..., CharadesSTADataset]) -> None:
    with pytest.raises(ValueError, match="on_error is 'ignore', expected one of 'stop', 'skip'"):
        charades(on_error="ignore")
