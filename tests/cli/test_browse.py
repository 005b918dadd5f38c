# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import json

import h5py
import numpy as np
import pytest


def entry(*sentences, fps=2.0, frames=40):
    moments = [[2 * number, 2 * number + 6] for number in range(len(sentences))]
    return {"fps": fps, "num_frames": frames, "sentences": list(sentences), "timestamps": moments}


@pytest.fixture
def data(tmp_path):
    """TACoS of three tiny splits."""
    folder = tmp_path / "data" / "TACoS" / "annotations"
    folder.mkdir(parents=True)
    long = entry("She cuts the bread.", "She cuts.") | {"num_frames": 7}
    for split, videos in {
        "train": {"s1": entry("She takes a knife.", "She cuts."), "s2": long},
        "val": {"s3": entry("He washes a carrot.")},
        "test": {"s4": entry("She cuts a leek.")},
    }.items():
        (folder / f"{split}.json").write_text(json.dumps(videos))
    (folder / "GloVe_tokenized_count.txt").write_text("cuts 0 4\nshe 1 5\na 2 3\n")
    return tmp_path / "data"


def row(output, label):
    (line,) = [line for line in output.out.splitlines() if line.startswith(label + "   ")]
    return line.removeprefix(label).split()


def test_numbers_of_all_splits(command, data, tmp_path):
    output = command("browse", "TACoS", "--data", data, "--json", tmp_path / "x.json", "--plot", tmp_path / "x.png")
    assert (output.code, output.err) == (0, "")
    assert row(output, "videos") == ["2", "1", "1"]
    assert row(output, "queries") == ["4", "1", "1"]
    assert row(output, "duration, s")[:4] == ["3.5", "11.8", "11.8", "20.0"]
    assert row(output, "words not in train") == ["-", "75.00%", "25.00%"]
    assert row(output, "words beyond the 1111 classes") == ["33.33%", "75.00%", "25.00%"]
    assert row(output, "repairs: late ends cut") == ["1", "0", "0"]
    assert "No two splits share a source video." in output.out
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["splits"]["train"]["repairs"] == {"late ends cut": 1}
    assert record["splits"]["val"]["unseen_in_train"] == {"occurrences": 0.75, "distinct_words": 0.75}


def test_json_alone_on_standard_output(command, data):
    output = command("browse", "tacos", "--data", data, "--split", "Val", "--json", "-")
    assert output.code == 0
    assert list(json.loads(output.out)["splits"]) == ["val"]


def test_vocabulary_and_word_vectors(command, data, tmp_path):
    (tmp_path / "glove.txt").write_text("she 1.0 2.0\na 0.5 0.5\nhe 1 1\nother 0 1\n")
    options = ["--split", "val", "--classes", 1, "--glove", tmp_path / "glove.txt"]
    output = command("browse", "tacos", "--data", data, *options)
    assert row(output, "words without vector") == ["50.00%"]
    assert row(output, "words beyond the 1 classes") == ["100.00%"]
    assert "3 entries, 1 classes; 66.67% of the counted occurrences are of other entries" in output.out


def test_missing_and_broken_splits_are_named_and_the_others_shown(command, data):
    (data / "TACoS/annotations/val.json").unlink()
    (data / "TACoS/annotations/test.json").write_text('{"s4": {"fps": 2.0}}')
    output = command("browse", "tacos", "--data", data)
    assert output.code == 1
    assert row(output, "videos") == ["2"]
    first, second = output.err.splitlines()
    assert first.startswith("val is not shown: annotation file not found: ")
    assert "test.json: video 's4': 'num_frames' is missing" in second


def test_a_broken_vocabulary_is_named(command, data):
    file = data / "TACoS/annotations/GloVe_tokenized_count.txt"
    file.write_text("../elsewhere/GloVe_tokenized_count.txt")
    output = command("browse", "tacos", "--data", data)
    assert output.code == 1
    assert row(output, "videos") == ["2", "1", "1"]
    assert output.err.startswith("GloVe_tokenized_count.txt is not shown: ")
    assert command("browse", "tacos", "--data", data, "--vocabulary", file).code == 2


def test_all_splits_missing(command, tmp_path):
    output = command("browse", "tacos", "--data", tmp_path)
    assert output.code == 2
    assert "tacos/annotations/train.json" in output.err


def test_features(command, data, tmp_path):
    with h5py.File(tmp_path / "c3d.hdf5", "w") as file:
        for vid in ("s1", "s2", "s3"):
            file[vid] = np.ones((8, 4), dtype=np.float32)
    output = command("browse", "tacos", "--data", data, "--features", tmp_path / "c3d.hdf5")
    assert output.code == 1
    assert row(output, "videos without c3d.hdf5") == ["0", "0", "1"]
    assert f"test: 1 videos are not in {tmp_path / 'c3d.hdf5'}: s4" in output.out


def test_data_sets_of_a_config(command):
    output = command("browse", "mesm_synthetic")
    assert output.code == 0
    assert row(output, "videos") == ["800", "100", "200"]
    assert "Nothing was repaired or dropped." in output.out


def test_files_of_a_config_are_shown_apart(command, data, monkeypatch):
    monkeypatch.setenv("MESM_DATA", str(data))
    folder = data / "charades_cg" / "annotations"
    folder.mkdir(parents=True)
    video = {"duration": 10.0, "sentences": ["person opens a door"], "timestamps": [[1.0, 4.0]]}
    for name in ("train", "test_trivial", "novel_composition", "novel_word"):
        (folder / f"{name}.json").write_text(json.dumps({f"{name}{i}": video for i in range(9)}))
    output = command("browse", "mesm_charades_cg_clip_slowfast", "--split", "test")
    assert output.code == 0
    assert "test/test_trivial" in output.out
    assert row(output, "videos") == ["9", "9", "9"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["taco"], "there is no data set 'taco' and no config of that name; did you mean tacos?"),
        (["mesm_chara"], "data set 'mesm_chara' and no config of that name; did you mean mesm_charades_"),
        (
            ["nothing"],
            "no data set 'nothing' and no config of that name; expected one of charades, charades_cg, ",
        ),
        (["mesm_synthetic", "--data", "x"], "--data goes with the name of a data set; for a config set MESM_DATA=DIR"),
        (["tacos", "--cfg-options", "a=1"], "--cfg-options changes a config, but tacos is the name of a data set"),
        (["tacos", "--split", "dev"], "--split dev: TACoS has the splits train, val, test"),
        (["tacos", "--classes", "0"], "--classes is 0, expected at least 1"),
        (["tacos", "--features", "gone.hdf5"], "features not found: gone.hdf5 is neither a file nor a folder"),
        (["tacos", "--vocabulary", "gone.txt"], "vocabulary file not found: gone.txt"),
    ],
)
def test_bad_arguments(command, arguments, message):
    output = command("browse", *arguments)
    assert output.code == 2
    assert message in output.err
    assert output.err.count("\n") == 1
