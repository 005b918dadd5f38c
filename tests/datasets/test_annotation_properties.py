# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Annotations of adversarial numbers and texts: a moment inside its video, or an error that names the place."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesm_plugin.datasets import CharadesCGDataset, CharadesSTADataset, QVHighlightsDataset, TACoSDataset

NO_PARTS: dict[str, Any] = {"features": None, "text": None, "lazy_init": True}
NUMBERS = st.one_of(
    st.floats(0, 50),
    st.floats(),
    st.integers(-(10**30), 10**30),
    st.sampled_from([0, -0.0, 5e-324, 1e-8, 10, 10.0000000001, 1e308, float("nan"), float("inf"), -1, 10**400, True]),
)
WRITTEN = st.one_of(
    NUMBERS.map(str),
    st.sampled_from(["1e3", "\uff11\uff12", "Infinity", "1_0", "0x1", "", "+5", "5.", ".5", "\u0663", "NaN", "--1"]),
)
SENTENCES = st.one_of(
    st.sampled_from(["a door", "", "?!", "##", "\xdf", "\u202eabc", "a\0b", "e\u0301" * 200]), st.text()
)
within_a_test = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


def moments_of(dataset: Any) -> list[tuple[float, float, float]]:
    return [
        (start, end, video["duration"])
        for video in dataset.load_data_list()
        for query in video["queries"]
        for start, end in query["moments"]
    ]


def check(dataset: Any, place: str) -> list[tuple[float, float, float]]:
    """Moments inside their videos; none if the data set names the place of what is wrong."""
    try:
        moments = moments_of(dataset)
    except ValueError as error:
        if place not in str(error):
            raise
        return []
    assert all(0 <= start < end <= duration < math.inf for start, end, duration in moments)
    return moments


@within_a_test
@given(start=WRITTEN, end=WRITTEN, duration=WRITTEN, sentence=SENTENCES)
def test_charades_sta(tmp_path: Path, start: str, end: str, duration: str, sentence: str) -> None:
    line = f"v {start} {end}##{sentence}\n"
    try:
        (tmp_path / "train.txt").write_bytes(line.encode())
    except UnicodeEncodeError:
        return
    (tmp_path / "train.csv").write_text(f"id,length\nv,{duration}\n", encoding="utf-8")
    files = {"ann_file": str(tmp_path / "train.txt"), "duration_file": str(tmp_path / "train.csv")}
    moments = check(CharadesSTADataset(**files, clip_length=1.0, **NO_PARTS), str(tmp_path / "train."))
    for first, last, length in moments:
        assert {first, last} <= {float(start), float(end), length}
    skipping = CharadesSTADataset(**files, clip_length=1.0, **NO_PARTS, on_error="skip")
    assert moments_of(skipping) == moments or skipping.left_out


@within_a_test
@given(moment=st.lists(NUMBERS, min_size=1, max_size=3), duration=NUMBERS, sentence=SENTENCES)
def test_charades_cg(tmp_path: Path, moment: list[Any], duration: Any, sentence: str) -> None:
    entry = {"duration": duration, "timestamps": [moment], "sentences": [sentence]}
    (tmp_path / "train.json").write_text(json.dumps({"v": entry}))
    arguments = {"ann_file": str(tmp_path / "train.json"), "clip_length": 1.0, **NO_PARTS}
    moments = check(CharadesCGDataset(**arguments), "train.json")
    skipping = CharadesCGDataset(**arguments, on_error="skip")
    try:
        assert moments_of(skipping) == moments
    except ValueError as error:
        # Half a character is no text anywhere.
        if "train.json" not in str(error):
            raise


@within_a_test
@given(moment=st.lists(NUMBERS, min_size=2, max_size=2), fps=NUMBERS, frames=NUMBERS)
def test_tacos(tmp_path: Path, moment: list[Any], fps: Any, frames: Any) -> None:
    entry = {"fps": fps, "num_frames": frames, "timestamps": [moment], "sentences": ["she cuts"]}
    (tmp_path / "train.json").write_text(json.dumps({"v": entry}))
    arguments = {"ann_file": str(tmp_path / "train.json"), "clip_length": None, **NO_PARTS}
    check(TACoSDataset(**arguments), "train.json")


@within_a_test
@given(
    windows=st.lists(st.lists(NUMBERS, min_size=2, max_size=2), max_size=3),
    duration=NUMBERS,
    clips=st.lists(st.one_of(st.integers(-1, 12), NUMBERS), max_size=3),
    grades=st.lists(st.lists(st.one_of(st.integers(-1, 5), NUMBERS), min_size=2, max_size=4), max_size=3),
    qid=st.one_of(NUMBERS, st.text(max_size=3)),
)
def test_qvhighlights(tmp_path: Path, windows: Any, duration: Any, clips: Any, grades: Any, qid: Any) -> None:
    labels = {"relevant_windows": windows, "relevant_clip_ids": clips, "saliency_scores": grades}
    record = {"qid": qid, "query": "a door", "vid": "x_0.0_20.0", "duration": duration, **labels}
    (tmp_path / "train.jsonl").write_text(json.dumps(record))
    dataset = QVHighlightsDataset(ann_file=str(tmp_path / "train.jsonl"), **NO_PARTS)
    if check(dataset, "train.jsonl:1"):
        assert len(clips) == len(grades) == len(set(clips))
        assert all(0 <= clip < duration / 2 for clip in clips)


def test_good_numbers_are_accepted(tmp_path: Path) -> None:
    """That the properties above are not empty."""
    (tmp_path / "train.txt").write_text("v +5 7.##a door\n")
    (tmp_path / "train.csv").write_text("id,length\nv,1e1\n")
    files = {"ann_file": str(tmp_path / "train.txt"), "duration_file": str(tmp_path / "train.csv")}
    assert check(CharadesSTADataset(**files, clip_length=1.0, **NO_PARTS), "train") == [(5, 7, 10)]


def test_unknown_on_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="on_error is 'x'"):
        TACoSDataset(ann_file="x", clip_length=None, **NO_PARTS, on_error="x")
