# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

Command = Callable[..., Any]


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Features of videos a, b and c, of 10 clips each, but c has 7."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for vid, count in (("a", 10), ("b", 10), ("c", 7)):
        np.savez(folder / f"{vid}.npz", features=np.full((count, 4), 1.5, dtype=np.float32))
    return folder


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Annotations of videos a, b and c, of 10 seconds each."""
    entry = {"timestamps": [[0, 2]], "sentences": ["a door"], "duration": 10.0}
    path = tmp_path / "train.json"
    path.write_text(json.dumps(dict.fromkeys("abc", entry)), encoding="utf-8")
    return path


def test_packs_and_checks(command: Command, clips: Path, annotations: Path, tmp_path: Path) -> None:
    output = tmp_path / "deep" / "all.hdf5"
    arguments = [
        "convert-features",
        clips,
        "--out",
        output,
        "--annotations",
        annotations,
        "--clip-length",
        1,
        "--dim",
        4,
    ]
    run = command(*arguments)
    assert run.code == 0
    assert "3 of 3 annotated videos have features" in run.out
    assert f"{output} written: 3 data sets, 7 to 10 clips of 4 channels, float32, 0.0 MB" in run.out
    assert (
        "warning: 1 videos have over 2 clips more or less than their duration over 1 s: c (7 clips, 10.0 s)" in run.out
    )
    with h5py.File(output) as file:
        assert file["b"][()].tolist() == [[1.5] * 4] * 10
    assert f"{output} is up to date" in command(*arguments).out


def test_token_ids(command: Command, annotations: Path, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "bpe.txt").write_text("#version\nd o\no r</w>\n")
    words, output = tmp_path / "words", tmp_path / "words.hdf5"
    words.mkdir()
    for number in (1, 2, 3):
        np.savez(words / f"train-{number}.npz", last_hidden_state=np.ones((5, 4), dtype=np.float32))
    arguments = ["convert-features", words, "--out", output, "--annotations", annotations]
    assert command(*arguments).code == 0
    run = command(*arguments, "--token-ids", tmp_path / "bpe.txt", "--overwrite")
    assert run.code == 0, run.err
    with h5py.File(output) as file:
        # Start, "a", "do", "or" and end: two merges follow the 512 tokens of bytes.
        assert file["train-2"].attrs["token_ids"].tolist() == [514, 64 + 256, 512, 513, 515]
    np.savez(words / "train-2.npz", last_hidden_state=np.ones((6, 4), dtype=np.float32))
    run = command(*arguments, "--token-ids", tmp_path / "bpe.txt", "--overwrite")
    assert run.code == 2
    assert "train-2.npz has 6 words, but the sentence of query train-2 has 5 tokens, start and end" in run.err


def test_missing_ids(command: Command, clips: Path, annotations: Path, tmp_path: Path) -> None:
    (clips / "b.npz").rename(clips / "x.npz")
    output = tmp_path / "all.hdf5"
    arguments = ["convert-features", clips, "--out", output, "--annotations", annotations]
    run = command(*arguments)
    assert run.code == 1
    assert "2 of 3 annotated videos have features\nmissing videos: b\n1 that the annotations do not name: x" in run.out
    assert "nothing was written" in run.err
    assert not output.exists()
    assert command(*arguments, "--allow-missing").code == 0
    assert output.exists()


def test_ids_without_the_ending_of_a_video(command: Command, clips: Path, tmp_path: Path) -> None:
    entry = {"timestamps": [[0, 2]], "sentences": ["a door"], "fps": 2.0, "num_frames": 20}
    path = tmp_path / "test.json"
    path.write_text(json.dumps({f"{name}.avi": entry for name in "abc"}), encoding="utf-8")
    arguments = ["convert-features", clips, "--out", tmp_path / "all.hdf5", "--annotations", path]
    run = command(*arguments)
    assert run.code == 0
    assert "3 ids are annotated ones but for the ending of a video: a is a.avi\n" in run.out
    assert "3 data sets, 7 to 10 clips of" in run.out
    with h5py.File(tmp_path / "all.hdf5") as file:
        assert list(file) == ["a.avi", "b.avi", "c.avi"]
    assert "is up to date" in command(*arguments).out


def test_stop_and_skip(command: Command, clips: Path, annotations: Path, tmp_path: Path) -> None:
    (clips / "b.npz").write_bytes(b"PK")
    output = tmp_path / "all.hdf5"
    arguments = ["convert-features", clips, "--out", output, "--annotations", annotations]
    stopped = command(*arguments)
    assert stopped.code == 2
    assert f"error: {clips / 'b.npz'} is truncated or is not a NumPy file" in stopped.err
    assert "1 of 3 are finished and kept in" in stopped.err
    skipped = command(*arguments, "--on-error", "skip")
    assert skipped.code == 1
    assert f"left out 1 of 3, listed in {output}.left_out.json:\n  {clips / 'b.npz'} is truncated" in skipped.err
    assert "1 of 3 were finished before" in skipped.out
    assert "without what was left out, 1 of 3 are missing: b" in skipped.out
    np.savez(clips / "b.npz", features=np.ones((10, 4), dtype=np.float32))
    mended = command(*arguments)
    assert mended.code == 0
    assert "2 of 3 were finished before" in mended.out


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--dim", "0"], "--dim is 0, expected the number of channels"),
        (["--split", "train"], "--split needs --dataset"),
        (["--clip-length", "1"], "--clip-length needs the durations of --dataset or --annotations"),
        (["--clip-length", "nan"], "--clip-length is nan, expected seconds > 0"),
        (["--allow-missing"], "--allow-missing needs --dataset or --annotations"),
        (["--dataset", "charade"], "there is no data set 'charade'"),
        (["--key", "x"], "a.npz has no key 'x'; it holds the arrays features"),
    ],
)
def test_bad_options(command: Command, clips: Path, tmp_path: Path, options: list[str], problem: str) -> None:
    run = command("convert-features", clips, "--out", tmp_path / "all.hdf5", *options)
    assert run.code == 2
    assert problem in run.err
    assert not (tmp_path / "all.hdf5").exists()


def test_conversion_says_what_is_lost(command: Command, clips: Path, tmp_path: Path) -> None:
    np.savez(clips / "a.npz", features=np.full((1, 4), 1.0001))
    run = command("convert-features", clips, "--out", tmp_path / "all.hdf5", "--dtype", "float16")
    assert "conversion to float16 changed values by up to 0.0001\n" in run.out
    mixed = command("convert-features", clips, "--out", tmp_path / "mixed.hdf5")
    assert "2 x float32, 1 x float64" in mixed.out
