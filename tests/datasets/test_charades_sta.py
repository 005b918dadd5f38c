# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.logging import MMLogger

from mesm_plugin.datasets import CharadesSTADataset, Vocabulary
from mesm_plugin.datasets.text.words import split_words

DURATIONS = 'id,subject,descriptions,length\nAAAAA,S1,"a, b\nc",30.5\nBBBBB,S2,x,12.0\nCCCCC,S3,y,20\n'


@pytest.fixture
def log() -> Iterator[list[str]]:
    """Messages of MMEngine's logger."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


@pytest.fixture
def load(write_text: Callable[[str, str], str], constant_features: Any, length_text: Any) -> Callable[..., Any]:
    """Makes the data set of some annotation lines."""

    def make(lines: str, durations: str = DURATIONS, **options: Any) -> CharadesSTADataset:
        arguments = {"features": constant_features, "text": length_text, "clip_length": 1.0} | options
        return CharadesSTADataset(
            ann_file=write_text("charades_sta_train.txt", lines),
            duration_file=write_text("Charades_v1_train.csv", durations),
            **arguments,
        )

    return make


def _queries(dataset: CharadesSTADataset) -> dict[str, list[tuple[Any, str, list[list[float]]]]]:
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return {info["vid"]: [(q["qid"], q["sentence"], q["moments"]) for q in info["queries"]] for info in infos}


def test_all_queries_of_a_video_travel_together_in_order_of_start(load: Callable[..., Any]) -> None:
    dataset = load(
        "AAAAA 9.2 12.0##late.\n"
        "BBBBB 0.0 3.4##person opens a door. \n"
        "AAAAA 2.9 4.0##same clip, first line\n"
        "AAAAA 2.1 8.0##same clip, second line\n"
    )
    assert _queries(dataset) == {
        "AAAAA": [
            (2, "same clip, first line", [[2.9, 4.0]]),
            (3, "same clip, second line", [[2.1, 8.0]]),
            (0, "late.", [[9.2, 12.0]]),
        ],
        "BBBBB": [(1, "person opens a door.", [[0.0, 3.4]])],
    }
    sample = dataset[0]["data_sample"]
    assert (sample.vid, sample.source, sample.duration, sample.qids) == ("AAAAA", "AAAAA", 30.5, [2, 3, 0])
    assert dataset[0]["queries"][2]["moments"].tolist() == [pytest.approx([9.2 / 30.5, 12 / 30.5])]


def test_proportional_clips_order_by_the_exact_start(load: Callable[..., Any]) -> None:
    dataset = load("AAAAA 2.9 4.0##first\nAAAAA 2.1 8.0##second\n", clip_length=None)
    assert [qid for qid, _, _ in _queries(dataset)["AAAAA"]] == [1, 0]


QUIRKS = (
    "AAAAA 1.0 2.0##fine\n"
    "BBBBB 13.0 10.0##starts beyond the video, so it is dropped before it could be swapped\n"
    "AAAAA 20.9 12.0##swapped\n"
    "BBBBB 8.0 14.0##cut\n"
    "AAAAA 40.0 12.0##dropped, too\n"
    "AAAAA 30.5 31.0##nothing is left after the cut\n"
    "AAAAA 31.5 3.0##dropped, although swapping and cutting would have saved it\n"
    "BBBBB 2.0 30.5##cut, too\n"
    "AAAAA 3.0 4.0##  \n"
    "AAAAA 3.0 4.0##...\n"
    "CCCCC 31.0 32.0##a video of which nothing is left\n"
)


def test_quirks_are_repaired_in_the_released_order_and_counted_in_one_line(
    load: Callable[..., Any], log: list[str]
) -> None:
    assert _queries(load(QUIRKS)) == {
        "AAAAA": [(0, "fine", [[1.0, 2.0]]), (2, "swapped", [[12.0, 20.9]])],
        "BBBBB": [(7, "cut, too", [[2.0, 12.0]]), (3, "cut", [[8.0, 12.0]])],
    }
    (line,) = log
    assert line.endswith(
        "charades_sta_train.txt: 4 queries of 2 videos; 5 starting beyond the video dropped, 2 empty sentences "
        "dropped, 1 swapped ends exchanged, 2 late ends cut"
    )


@pytest.mark.parametrize(
    ("number", "problem"),
    [
        (2, r"the moment 13\.0 to 10\.0 starts beyond the end of the video, 12\.0 s"),
        (3, r"the moment 20\.9 to 12\.0 ends before it starts"),
        (4, r"the moment 8\.0 to 14\.0 ends beyond the end of the video, 12\.0 s"),
        (6, r"the moment 30\.5 to 31\.0 starts beyond the end of the video, 30\.5 s"),
        (9, "the sentence '' has no words"),
        (10, r"the sentence '\.\.\.' has no words"),
    ],
)
def test_strict_raises_instead(load: Callable[..., Any], number: int, problem: str) -> None:
    lines = QUIRKS.splitlines()
    fine = "AAAAA 1.0 2.0##fine\n" * (number - 1)
    with pytest.raises(ValueError, match=rf"charades_sta_train\.txt:{number}: {problem}"):
        load(fine + lines[number - 1] + "\n", strict=True)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("AAAAA 5.0 5.0##empty moment", r"the moment 5\.0 to 5\.0 has length zero"),
        ("AAAAA 1.0##one number", "'AAAAA 1.0##one number' is not of the form 'vid start end##sentence'"),
        ("AAAAA 1.0 2.0 no separator", "is not of the form 'vid start end##sentence'"),
        ("", "'' is not of the form"),
        ("AAAAA one 2.0##word", "the moment is one to 2.0, expected two numbers of seconds >= 0"),
        ("AAAAA -1.0 2.0##negative", r"the moment is -1\.0 to 2\.0, expected two numbers of seconds >= 0"),
        ("AAAAA 1.0 nan##not a number", "the moment is 1.0 to nan, expected two numbers"),
        ("AAAAA inf inf##infinite", "the moment is inf to inf, expected two numbers"),
        ("AAAAA 1_0 2.0##word", "the moment is 1_0 to 2.0, expected two numbers"),
        ("AAAAA 1.0 2.0##two lines\rAAAAA 1.0 2.0##in one", "is not of the form 'vid start end##sentence'"),
        ("ZZZZZ 1.0 2.0##who", r"video ZZZZZ has no duration in .*Charades_v1_train\.csv"),
    ],
)
def test_bad_lines(load: Callable[..., Any], line: str, problem: str, strict: bool) -> None:
    with pytest.raises(ValueError, match=rf"charades_sta_train\.txt:2: .*{problem}"):
        load(f"AAAAA 1.0 2.0##fine\n{line}\nAAAAA 1.0 2.0##fine\n", strict=strict)


@pytest.mark.parametrize(
    ("durations", "problem"),
    [
        ("id,length\nAAAAA,0\n", r"csv:2: the length of video AAAAA is '0', expected seconds > 0"),
        ("id,length\nBBBBB,1.5\nAAAAA,long\n", r"csv:3: the length of video AAAAA is 'long', expected seconds > 0"),
        ("id,length\nAAAAA,nan\n", "the length of video AAAAA is 'nan', expected seconds > 0"),
        ("id,length\nAAAAA\n", "the length of video AAAAA is None, expected seconds > 0"),
        ("id,length\nAAAAA,1_0\n", "the length of video AAAAA is '1_0', expected seconds > 0"),
        ("id,length\nAAAAA,3\nBBBBB,1\nAAAAA,4\n", "csv:4: the length of video AAAAA is 4, but 3 above"),
        ("id,length\rAAAAA,3\r", r"csv:1: not a line of CSV \(.*\)"),
        ("id,length\nBBBBB,1\nAAAAA,3\r.5\n", r"csv:3: not a line of CSV \(.*\)"),
        ("vid,duration\nAAAAA,3\n", r"csv:1: the columns are \['vid', 'duration'\], expected 'id' and 'length'"),
        ("", "csv:1: the columns are None, expected 'id' and 'length' among them"),
    ],
)
def test_bad_durations(load: Callable[..., Any], durations: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        load("AAAAA 1.0 2.0##fine\n", durations)


def test_durations_in_json(write_text: Callable[[str, str], str], constant_features: Any, length_text: Any) -> None:
    parts = {"features": constant_features, "text": length_text, "clip_length": None}
    parts["ann_file"] = write_text("charades_sta_train.txt", "AAAAA 1.0 2.0##fine\n")

    def duration(text: str) -> float:
        return CharadesSTADataset(duration_file=write_text("durations.json", text), **parts)[0]["data_sample"].duration

    assert duration('{"AAAAA": 30.5, "BBBBB": "12"}') == 30.5
    with pytest.raises(ValueError, match=r"durations\.json: the length of video BBBBB is \[1\], expected seconds > 0"):
        duration('{"AAAAA": 30.5, "BBBBB": [1]}')
    for length in ("true", "1" + "0" * 400):
        with pytest.raises(
            ValueError, match=r"durations\.json: the length of video BBBBB is [\w.]+, expected seconds > 0"
        ):
            duration(f'{{"AAAAA": 30.5, "BBBBB": {length}}}')
    with pytest.raises(ValueError, match=r"durations\.json:2: not JSON .*is the file complete"):
        duration('{"AAAAA": 30.5,\n')
    with pytest.raises(
        ValueError, match=r"durations\.json: expected an object with the seconds of each video, got a list"
    ):
        duration("[30.5]")


def test_missing_files(tmp_path: Path, write_text: Any, constant_features: Any, length_text: Any) -> None:
    parts = {"features": constant_features, "text": length_text, "clip_length": 1.0, "data_root": str(tmp_path)}
    with pytest.raises(FileNotFoundError, match=r"annotation file not found: .*ann\.txt"):
        CharadesSTADataset(ann_file="ann.txt", duration_file="durations.csv", **parts)
    write_text("ann.txt", "AAAAA 1.0 2.0##fine\n")
    with pytest.raises(FileNotFoundError, match=r"duration file not found: .*durations\.csv"):
        CharadesSTADataset(ann_file="ann.txt", duration_file="durations.csv", **parts)
    write_text("durations.csv", DURATIONS)
    assert len(CharadesSTADataset(ann_file="ann.txt", duration_file="durations.csv", **parts)) == 1


def test_nothing_left(load: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"CharadesSTADataset: no query is left of .*charades_sta_train\.txt"):
        load("BBBBB 13.0 14.0##gone\n")


def _many_videos(order: range) -> tuple[str, str]:
    lines = "".join(f"V{i:04d} 1.0 2.0##person runs.\nV{i:04d} 2.0 3.0##person stops.\n" for i in order)
    return lines, "id,length\n" + "".join(f"V{i:04d},10.0\n" for i in order)


def test_holdout_divides_the_videos(load: Callable[..., Any]) -> None:
    files = _many_videos(range(500))
    everything, train, val = (_queries(load(*files, holdout=part)) for part in (None, "train", "val"))
    assert len(everything) == 500
    assert train.keys() | val.keys() == everything.keys()
    assert not train.keys() & val.keys()
    assert 35 <= len(val) <= 65
    assert all(len(queries) == 2 for queries in everything.values())


def test_holdout_does_not_depend_on_the_order_of_the_file(load: Callable[..., Any]) -> None:
    forward = _queries(load(*_many_videos(range(500)), holdout="val")).keys()
    assert _queries(load(*_many_videos(range(499, -1, -1)), holdout="val")).keys() == forward
    fewer = {f"V{i:04d}" for i in range(100)}
    assert _queries(load(*_many_videos(range(100)), holdout="val")).keys() == forward & fewer
    # The hash is that of the id alone, on every machine.
    assert sorted(forward)[:5] == ["V0003", "V0016", "V0025", "V0034", "V0039"]


def test_holdout_fraction(load: Callable[..., Any]) -> None:
    val = _queries(load(*_many_videos(range(500)), holdout="val", holdout_fraction=0.5))
    assert 210 <= len(val) <= 290


def test_holdout_arguments(load: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="holdout is 'test', expected None, 'train' or 'val'"):
        load(QUIRKS, holdout="test")
    with pytest.raises(ValueError, match="holdout_fraction is 10, expected a share between 0 and 1"):
        load(QUIRKS, holdout="val", holdout_fraction=10)


@pytest.fixture
def load_real(shared: Path, constant_features: Any, length_text: Any) -> Callable[..., Any]:
    """Makes the data set of a published split."""

    def make(split: str, **options: Any) -> CharadesSTADataset:
        arguments = {"features": constant_features, "text": length_text, "clip_length": 1.0} | options
        return CharadesSTADataset(
            data_root=str(shared / "data" / "charades"),
            ann_file=f"charades_sta_{split}.txt",
            duration_file=f"Charades_v1_{split}.csv",
            **arguments,
        )

    return make


@pytest.mark.parametrize(
    ("split", "videos", "queries", "counts"),
    [("train", 5336, 12405, (3, 0, 1, 1802)), ("test", 1334, 3720, (0, 0, 0, 562))],
)
def test_published_files(
    load_real: Callable[..., Any], log: list[str], split: str, videos: int, queries: int, counts: tuple[int, ...]
) -> None:
    dataset = load_real(split)
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    assert len(infos) == videos
    assert sum(len(info["queries"]) for info in infos) == queries
    moments = np.array([query["moments"][0] for info in infos for query in info["queries"]])
    durations = np.array([info["duration"] for info in infos for _ in info["queries"]])
    assert (moments[:, 0] < moments[:, 1]).all()
    assert (moments >= 0).all()
    assert (moments <= durations[:, None]).all()
    assert log[-1].endswith(
        f"charades_sta_{split}.txt: {queries} queries of {videos} videos; {counts[0]} starting beyond the video "
        f"dropped, {counts[1]} empty sentences dropped, {counts[2]} swapped ends exchanged, {counts[3]} late ends cut"
    )


def test_published_quirks_one_by_one(load_real: Callable[..., Any]) -> None:
    dataset = load_real("train")
    videos = {info["vid"]: info for info in map(dataset.get_data_info, range(len(dataset)))}
    assert [12.0, 20.9] in [query["moments"][0] for query in videos["IOL8Q"]["queries"]]
    for vid, dropped in (("LEOL6", [8.0, 6.25]), ("AKKWU", [13.0, 12.17])):
        assert dropped not in [query["moments"][0] for query in videos.get(vid, {"queries": []})["queries"]]
    with pytest.raises(
        ValueError, match=r"charades_sta_train\.txt:\d+: the moment .* ends beyond the end of the video"
    ):
        load_real("train", strict=True)


def test_published_holdout(load_real: Callable[..., Any]) -> None:
    train, val = load_real("train", holdout="train"), load_real("train", holdout="val")
    assert (len(train), len(val)) == (4820, 516)
    assert not {info["vid"] for info in map(train.get_data_info, range(len(train)))} & {
        info["vid"] for info in map(val.get_data_info, range(len(val)))
    }


def test_query_ids_are_line_numbers_of_the_published_test_file(shared: Path, load_real: Callable[..., Any]) -> None:
    lines = (shared / "data" / "charades" / "charades_sta_test.txt").read_text(encoding="utf-8").splitlines()
    dataset = load_real("test")
    for info in map(dataset.get_data_info, range(0, len(dataset), 50)):
        for query in info["queries"]:
            assert lines[query["qid"]].startswith(info["vid"])
            assert lines[query["qid"]].split("##")[1].rstrip() == query["sentence"]


def test_published_vocabulary_holds_every_word(shared: Path, load_real: Callable[..., Any]) -> None:
    vocabulary = Vocabulary.from_file(shared / "data" / "charades" / "GloVe_tokenized_count.txt", 1268)
    for split in ("train", "test"):
        dataset = load_real(split)
        words = {
            word
            for info in map(dataset.get_data_info, range(len(dataset)))
            for query in info["queries"]
            for word in split_words(query["sentence"])
        }
        assert max(map(vocabulary.label, words)) < 1268
