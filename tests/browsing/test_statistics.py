# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import csv
import json
import statistics
import string
from pathlib import Path
from typing import Any

import pytest

from mesm_plugin.browsing.statistics import (
    count_words,
    moment_times,
    outside_share,
    shared_videos,
    split_statistics,
)
from mesm_plugin.datasets.dataset_names import published_dataset


def _video(vid: str, duration: float, *queries: dict[str, Any], source: str | None = None) -> dict[str, Any]:
    return {"vid": vid, "source": source or vid, "duration": duration, "queries": list(queries)}


VIDEOS = [
    _video(
        "a_0_10",
        10.0,
        {
            "qid": 1,
            "sentence": "A door, the door.",
            "moments": [[0.0, 2.0], [4.0, 10.0]],
            "grades": [[0, 0, 0], [4, 1, 4]],
        },
        {"qid": 2, "sentence": "Open", "moments": [[5.0, 10.0]], "grades": [[2, 2, 0]]},
        source="a",
    ),
    _video(
        "a_10_50", 40.0, {"qid": 3, "sentence": "The end", "moments": [[10.0, 20.0]], "grades": [[1, 1, 1]]}, source="a"
    ),
    _video("b", 22.0, {"qid": 4, "sentence": "the DOOR", "moments": [[11.0, 22.0]], "grades": [[3, 3, 3]]}),
]


def test_split_statistics() -> None:
    assert split_statistics(VIDEOS) == {
        "videos": 3,
        "sources": 2,
        "hours": 0.02,
        "duration": {"min": 10, "median": 22, "mean": 24, "max": 40},
        "queries": 4,
        "queries_a_video": {"min": 1, "median": 1, "mean": 1.333333, "max": 2},
        "words": 9,
        "distinct_words": 5,
        "words_a_sentence": {"min": 1, "median": 2, "mean": 2.25, "max": 4},
        "moments": 5,
        "moments_a_query": {"1": 3, "2": 1},
        "moment_seconds": {"min": 2, "median": 6, "mean": 6.8, "max": 11},
        "moment_share": {"min": 0.2, "median": 0.5, "mean": 0.41, "max": 0.6},
        "moment_start": {"min": 0, "median": 0.4, "mean": 0.33, "max": 0.5},
        "moment_end": {"min": 0.2, "median": 1, "mean": 0.74, "max": 1},
        "graded_clips": 5,
        "grades": {"0": 4, "1": 4, "2": 2, "3": 3, "4": 2},
        "clips_graded_zero": 1,
    }


def test_split_without_labels() -> None:
    record = split_statistics([_video("a", 8.0, {"qid": 1, "sentence": "one word"})])
    assert record["moments"] is None
    assert record["hours"] == pytest.approx(8 / 3600, abs=1e-6)
    assert not {"moments_a_query", "moment_seconds", "grades"} & set(record)


def test_words_are_counted_most_frequent_first() -> None:
    assert list(count_words(VIDEOS).items()) == [("door", 3), ("the", 3), ("a", 1), ("open", 1), ("end", 1)]


def test_outside_share() -> None:
    shares = outside_share({"door": 3, "the": 3, "a": 1, "open": 1}, {"door", "a", "other"})
    assert shares == {"occurrences": 0.5, "distinct_words": 0.5}


def test_shared_videos_are_those_of_one_source() -> None:
    other = [_video("a_50_60", 10.0, VIDEOS[0]["queries"][0], source="a")]
    assert shared_videos({"train": VIDEOS, "val": other, "test": VIDEOS[2:]}) == {
        "train": {"val": 1, "test": 1},
        "val": {"test": 0},
    }


def test_moment_times() -> None:
    seconds, shares = moment_times(VIDEOS[1:])
    assert seconds.tolist() == [[10, 20], [11, 22]]
    assert shares.tolist() == [[0.25, 0.5], [0.5, 1.0]]


def _words(sentence: str) -> list[str]:
    return "".join(" " if letter in string.punctuation else letter for letter in sentence.lower()).split()


def _expected(rows: list[tuple[str, float, float, float, str]]) -> dict[str, Any]:
    """Counted in plain Python from rows of video, duration, start, end, sentence."""
    rows = [(vid, length, min(a, b), min(max(a, b), length), text) for vid, length, a, b, text in rows if a < length]
    lengths = {vid: length for vid, length, *_ in rows}
    words = [word for *_, text in rows for word in _words(text)]
    spans = [end - start for _, _, start, end, _ in rows]
    return {
        "videos": len(lengths),
        "queries": len(rows),
        "moments": len(rows),
        "words": len(words),
        "distinct_words": len(set(words)),
        "hours": round(sum(lengths.values()) / 3600, 6),
        "median duration": round(statistics.median(lengths.values()), 6),
        "mean length": pytest.approx(statistics.fmean(spans), abs=1e-6),
        "longest": round(max(spans), 6),
    }


def _found(videos: list[dict[str, Any]]) -> dict[str, Any]:
    record = split_statistics(videos)
    counts = {key: record[key] for key in ("videos", "queries", "moments", "words", "distinct_words", "hours")}
    seconds = record["moment_seconds"]
    return counts | {
        "median duration": record["duration"]["median"],
        "mean length": seconds["mean"],
        "longest": seconds["max"],
    }


@pytest.mark.parametrize("split", ["train", "test"])
def test_charades_counted_anew(shared: Path, split: str) -> None:
    folder = shared / "data" / "charades"
    with open(folder / f"Charades_v1_{split}.csv", newline="", encoding="utf-8") as file:
        durations = {row["id"]: float(row["length"]) for row in csv.DictReader(file)}
    rows = []
    for line in (folder / f"charades_sta_{split}.txt").read_text(encoding="utf-8").splitlines():
        (vid, start, end), text = line.split("##")[0].split(), line.split("##")[1]
        rows.append((vid, durations[vid], float(start), float(end), text))
    assert _found(published_dataset("charades", shared / "data").read(split)) == _expected(rows)


@pytest.mark.parametrize(
    ("name", "split", "file"),
    [
        ("tacos", "train", "TACoS/train"),
        ("tacos", "test", "TACoS/test"),
        ("charades_cg", "novel_word", "Charades-CG/novel_word"),
        ("charades_cd", "test_ood", "Charades-CD/charades_test_ood"),
    ],
)
def test_json_counted_anew(shared: Path, name: str, split: str, file: str) -> None:
    rows = []
    for vid, entry in json.loads((shared / "data" / f"{file}.json").read_text(encoding="utf-8")).items():
        rate = entry.get("fps", 1.0)
        length = entry["num_frames"] / rate if "fps" in entry else entry.get("duration", entry.get("video_duration"))
        for (start, end), text in zip(entry["timestamps"], entry["sentences"], strict=True):
            rows.append((vid, length, start / rate, end / rate, text))
    assert _found(published_dataset(name, shared / "data").read(split)) == _expected(rows)


def test_qvhighlights_counted_anew(shared: Path) -> None:
    text = (shared / "data" / "qvhighlights" / "highlight_val_release.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    record = split_statistics(published_dataset("qvhighlights", shared / "data").read("val"))
    assert record["queries"] == len(rows) == 1550
    assert record["moments"] == sum(len(row["relevant_windows"]) for row in rows) == 2803
    assert record["moments_a_query"]["2"] == sum(len(row["relevant_windows"]) == 2 for row in rows)
    assert record["sources"] == len({row["vid"].rsplit("_", 2)[0] for row in rows}) == 474
    grades = [grade for row in rows for clip in row["saliency_scores"] for grade in clip]
    assert record["grades"] == {str(grade): grades.count(grade) for grade in range(5)}
    assert record["clips_graded_zero"] == sum(not sum(clip) for row in rows for clip in row["saliency_scores"]) == 33
