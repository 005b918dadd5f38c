# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mesm_plugin.datasets import CharadesCDDataset, CharadesCGDataset, MissingFeaturesError, TACoSDataset

VIDEO = {
    "timestamps": [[4.0, 9.0], [12.0, 3.0], [2.5, 25.0], [21.0, 22.0], [1.0, 2.0]],
    "sentences": ["fine", "swapped", "cut", "dropped", " . "],
    "duration": 20.0,
}
OTHER = {"timestamps": [[0, 5]], "sentences": [" Second video. "], "duration": 10}

Load = Callable[..., Any]


@pytest.fixture
def load(write_text: Callable[[str, str], str], constant_features: Any, length_text: Any) -> Load:
    """Makes the data set of a JSON value, or of text; the features have 10 clips."""

    def make(value: Any, cls: type = CharadesCGDataset, name: str = "novel_word.json", **options: Any) -> Any:
        text = value if isinstance(value, str) else json.dumps(value)
        arguments = {"features": constant_features, "text": length_text, "clip_length": 2.0} | options
        return cls(ann_file=write_text(name, text), **arguments)

    return make


def _infos(dataset: Any) -> list[dict[str, Any]]:
    return [dataset.get_data_info(index) for index in range(len(dataset))]


def _queries(dataset: Any) -> dict[str, list[tuple[Any, str, list[list[float]]]]]:
    return {info["vid"]: [(q["qid"], q["sentence"], q["moments"]) for q in info["queries"]] for info in _infos(dataset)}


def test_moments_are_repaired(load: Load) -> None:
    dataset = load({"a": VIDEO, "b": OTHER})
    assert _queries(dataset) == {
        "a": [
            ("novel_word-2", "swapped", [[3.0, 12.0]]),
            ("novel_word-3", "cut", [[2.5, 20.0]]),
            ("novel_word-1", "fine", [[4.0, 9.0]]),
        ],
        "b": [("novel_word-6", " Second video. ", [[0.0, 5.0]])],
    }
    sample = dataset[0]["data_sample"]
    assert (sample.vid, sample.source, sample.split, sample.duration) == ("a", "a", "novel_word", 20.0)
    # int(3 / 2) to int(12 / 2), both included.
    assert dataset[0]["queries"][0]["segment_mask"].nonzero().flatten().tolist() == [1, 2, 3, 4, 5, 6]


def test_the_log_counts_repairs(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr("mesm_plugin.datasets.json_dataset.print_log", lambda line, **_: lines.append(line))
    load({"a": VIDEO, "b": OTHER})
    (line,) = lines
    assert line.endswith(
        "novel_word.json: 4 queries of 2 videos; 1 starting beyond the video dropped, 1 empty sentences dropped, "
        "1 swapped ends exchanged, 1 late ends cut"
    )


def test_strict_raises_instead(load: Load) -> None:
    with pytest.raises(
        ValueError, match=r"novel_word\.json: video 'a', sentence 2: the moment 12\.0 to 3\.0 ends befo"
    ):
        load({"a": VIDEO}, strict=True)


def test_several_splits_stay_apart(load: Load, write_text: Callable[[str, str], str]) -> None:
    first = write_text("first.json", json.dumps({"b": OTHER}))
    second = write_text("second.json", json.dumps({"b": OTHER, "c": OTHER}))
    dataset = CharadesCGDataset(
        ann_file=[first, second], features=load({"b": OTHER}).features, text=load({"b": OTHER}).text, clip_length=1.0
    )
    assert [(info["split"], info["vid"], info["queries"][0]["qid"]) for info in _infos(dataset)] == [
        ("first", "b", "first-1"),
        ("second", "b", "second-1"),
        ("second", "c", "second-2"),
    ]


def test_splits_of_one_name(constant_features: Any, length_text: Any) -> None:
    parts = {"features": constant_features, "text": length_text, "clip_length": 1.0}
    with pytest.raises(ValueError, match=r"ann_file has files of the same name \(test, test\)"):
        CharadesCGDataset(ann_file=["a/test.json", "b/test.json"], **parts)
    with pytest.raises(ValueError, match="ann_file is an empty list"):
        CharadesCGDataset(ann_file=[], **parts)


def test_paths_are_joined(constant_features: Any, length_text: Any, tmp_path: Any) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"b": OTHER}))
    parts = {"features": constant_features, "text": length_text, "clip_length": 1.0, "data_root": str(tmp_path)}
    assert len(CharadesCGDataset(ann_file="x.json", **parts)) == 1
    with pytest.raises(FileNotFoundError, match=r"annotation file not found: .*y\.json"):
        CharadesCGDataset(ann_file=["x.json", "y.json"], **parts)


def test_holdout_divides_the_videos(load: Load) -> None:
    videos = {f"V{i:04d}": OTHER for i in range(100)}
    train, val = (_queries(load(videos, holdout=part)) for part in ("train", "val"))
    # The same division as that of Charades-STA.
    assert list(val)[:5] == ["V0003", "V0016", "V0025", "V0034", "V0039"]
    assert {**train, **val}.keys() == videos.keys()
    assert not train.keys() & val.keys()
    # Ids count the sentences of the file, whatever is held out.
    assert val["V0003"][0][0] == "novel_word-4"
    with pytest.raises(ValueError, match="holdout is 'test', expected None, 'train' or 'val'"):
        load(videos, holdout="test")


def test_frames_become_seconds(load: Load) -> None:
    entry = {"timestamps": [[58, 294], [0, 500]], "sentences": ["a pan", "cut"], "fps": 29.4, "num_frames": 441}
    dataset = load({"s1.avi": entry}, TACoSDataset, "test.json", clip_length=None)
    (info,) = _infos(dataset)
    assert info["duration"] == 441 / 29.4
    assert [query["moments"] for query in info["queries"]] == [[[0.0, 441 / 29.4]], [[58 / 29.4, 294 / 29.4]]]
    # Of 10 clips int(58 / 441 * 10) to int(294 / 441 * 10).
    query = dataset[0]["queries"][1]
    assert query["segment_mask"].nonzero().flatten().tolist() == [1, 2, 3, 4, 5, 6]
    assert query["moments"].tolist() == [pytest.approx([58 / 441, 294 / 441])]


def test_tacos_gathers_at_most_ten_queries(load: Load) -> None:
    count = 23
    entry = {
        "timestamps": [[i, i + 5] for i in range(count)],
        "sentences": [f"s{i}" for i in range(count)],
        "fps": 1.0,
        "num_frames": 40,
    }
    dataset = load({"long": entry, "short": {**entry, "timestamps": [[0, 5]], "sentences": ["one"]}}, TACoSDataset)
    assert [(info["vid"], len(info["queries"])) for info in _infos(dataset)] == [
        ("long", 10),
        ("short", 1),
        ("long", 10),
        ("long", 3),
    ]
    assert len(dataset[3]["queries"]) == 3
    assert len(load({"long": entry}, TACoSDataset, max_queries=None)) == 1


def test_missing_features_count_videos_not_items(load: Load) -> None:
    many = {**OTHER, "timestamps": [[0, 5]] * 5, "sentences": ["word"] * 5}
    with pytest.raises(MissingFeaturesError, match=r"1 of 2 annotated videos have no features in memory: lost$"):
        load({"lost": many, "b": OTHER}, max_queries=2)


def test_duration_of_charades_cd(load: Load) -> None:
    entry = {"timestamps": [[17.7, 23.6]], "sentences": ["a"], "video_duration": 23.5625, "video_fps": -1.0}
    (info,) = _infos(load({"QM4AD": entry}, CharadesCDDataset))
    assert (info["duration"], info["queries"][0]["moments"]) == (23.5625, [[17.7, 23.5625]])


def _with(**changes: Any) -> dict[str, Any]:
    return {"fine": OTHER, "v": {key: value for key, value in {**OTHER, **changes}.items() if value is not ...}}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ('{"a": {"timestamps": [[0, 1', r"novel_word\.json:1: not JSON \(.*\); is the file complete\?"),
        ("", r"novel_word\.json:1: not JSON"),
        ("[]", "expected a JSON object with an entry per video, got list"),
        ("{}", "expected a JSON object with an entry per video, got an empty object"),
        ('{"a": {}, "a": {}}', "the key 'a' occurs twice in an object"),
        ({"v": [1]}, "video 'v': expected a JSON object, got list"),
        (_with(sentences=...), "video 'v': 'sentences' is missing, expected a list of at least one sentence"),
        (_with(sentences=[], timestamps=[]), r"'sentences' is \[\], expected a list of at least one sentence"),
        (_with(sentences="text"), "'sentences' is 'text', expected a list"),
        (_with(sentences=[3]), "video 'v', sentence 1: 3 in 'sentences' is no text"),
        (_with(timestamps=...), r"'timestamps' is missing, expected a list of \[start, end\] for each of the 1 sent"),
        (_with(timestamps=[[0, 1], [1, 2]]), "for each of the 1 sentences"),
        (_with(timestamps=[[0, 1, 2]]), r"sentence 1: \[0, 1, 2\] in 'timestamps', expected \[start, end\], two numb"),
        (_with(timestamps=[["0", 1]]), r"sentence 1: \['0', 1\] in 'timestamps', expected"),
        (_with(timestamps=[[True, 2]]), r"sentence 1: \[True, 2\] in 'timestamps', expected"),
        (_with(timestamps=[[-1, 2]]), r"\[-1, 2\] in 'timestamps', expected \[start, end\], two numbers >= 0"),
        (_with(timestamps=[[float("nan"), 2]]), r"\[nan, 2\] in 'timestamps', expected"),
        (_with(timestamps=[[0, float("inf")]]), r"\[0, inf\] in 'timestamps', expected"),
        (_with(timestamps=[[0, 10**400]]), "in 'timestamps', expected"),
        (_with(timestamps=[[2, 2]]), r"\[2, 2\] in 'timestamps' has length zero; correct or delete the sentence"),
        (_with(duration=...), "video 'v': 'duration' is missing, expected a number > 0"),
        (_with(duration=0), "'duration' is 0, expected a number > 0"),
        (_with(duration="10"), "'duration' is '10', expected a number > 0"),
        (_with(duration=float("nan")), "'duration' is nan, expected a number > 0"),
        (_with(duration="x" * 200), r"'duration' is 'x{76}\.\.\., expected"),
    ],
)
def test_bad_input(load: Load, value: Any, problem: str, strict: bool) -> None:
    with pytest.raises(ValueError, match=problem) as error:
        load(value, strict=strict)
    assert "novel_word.json" in str(error.value)


@pytest.mark.parametrize("key", ["fps", "num_frames"])
def test_bad_frames(load: Load, key: str) -> None:
    entry = {"timestamps": [[0, 5]], "sentences": ["a"], "fps": 10.0, "num_frames": 100}
    with pytest.raises(ValueError, match=f"video 's1': '{key}' is -1, expected a number > 0"):
        load({"s1": {**entry, key: -1}}, TACoSDataset)
    with pytest.raises(ValueError, match=f"video 's1': '{key}' is missing, expected a number > 0"):
        load({"s1": {k: v for k, v in entry.items() if k != key}}, TACoSDataset)


@pytest.mark.parametrize(("fps", "frames"), [(1e-300, 1e300), (1e300, 1e-300)])
def test_a_duration_that_is_no_number_of_seconds(load: Load, fps: float, frames: float) -> None:
    entry = {"timestamps": [[0, 5]], "sentences": ["a"], "fps": fps, "num_frames": frames}
    with pytest.raises(
        ValueError, match=r"video 's1': 'num_frames' is .* and 'fps' .*, expected a video of some seconds"
    ):
        load({"s1": entry}, TACoSDataset)


def test_a_long_value_is_cut_in_the_message(load: Load) -> None:
    with pytest.raises(ValueError, match="expected") as error:
        load({"a": {**OTHER, "timestamps": [list(range(10_000))]}})
    assert "'timestamps', expected [start, end]" in str(error.value)
    assert len(str(error.value)) < 400


def test_nothing_left(load: Load) -> None:
    with pytest.raises(ValueError, match=r"CharadesCGDataset: no query is left of .*novel_word\.json"):
        load({"a": {**OTHER, "timestamps": [[11, 12]]}})


def test_clips_of_a_pooled_video_are_those_of_the_proportional_convention(load: Load, constant_features: Any) -> None:
    rng = np.random.default_rng(0)
    entry = {"timestamps": [], "sentences": [], "fps": 29.4, "num_frames": 9000}
    for _ in range(50):
        start, end = sorted(rng.choice(9000, 2, replace=False).tolist())
        entry["timestamps"].append([start, end])
        entry["sentences"].append("word")
    constant_features.features = np.ones((25, 2), dtype=np.float32)
    dataset = load({"v": entry}, TACoSDataset, clip_length=None, max_clips=20)
    checked = 0
    for item, info in zip(map(dataset.__getitem__, range(5)), _infos(dataset), strict=True):
        for query, row in zip(info["queries"], item["queries"], strict=True):
            start, end = (int(time / info["duration"] * 20) for time in query["moments"][0])
            assert row["segment_mask"].nonzero().flatten().tolist() == list(range(start, min(end, 19) + 1))
            checked += 1
    assert checked == 50
