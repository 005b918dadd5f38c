# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm predict` on files of the synthetic data set."""

import json

import numpy as np
import pytest

from mesm_plugin.apis import GroundingInferencer
from mesm_plugin.datasets import SyntheticFeatures, export_synthetic
from mesm_plugin.engine.config_loading import read_config

VIDEO = "synthetic_test_00001"
SENTENCES = ["the boy reads a book", "a girl closes a laptop"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    export_synthetic(folder, {"test": 3}, feature_dim=8, word_dim=8)
    np.save(folder / "kitchen.npy", SyntheticFeatures(dim=8, word_dim=8, normalize=False)[VIDEO])
    return folder


@pytest.fixture(scope="module")
def predict(command, trained, small, folder):
    def run(*arguments):
        return command("predict", "mesm_synthetic", trained.best, *arguments, "--cfg-options", *small)

    return run


@pytest.fixture(scope="module")
def expected(trained, small, folder):
    inferencer = GroundingInferencer(read_config("mesm_synthetic", small), trained.best)
    return inferencer(np.load(folder / "kitchen.npy"), SENTENCES)


def sentences_of(sentences):
    return [argument for sentence in sentences for argument in ("--sentence", sentence)]


def test_table_json_and_picture(predict, folder, expected, tmp_path):
    files = ["--features", folder / "features.hdf5", "--video", VIDEO]
    written = ["--json", tmp_path / "new" / "moments.json", "--plot", tmp_path / "moments.png"]
    output = predict(*files, *sentences_of(SENTENCES), "--top", 2, *written, "--moment", 3, 9)
    assert (output.code, output.err) == (0, "")

    read = json.loads((tmp_path / "new" / "moments.json").read_text())
    assert read["video"] == VIDEO
    assert [query["sentence"] for query in read["queries"]] == SENTENCES
    lines = output.out.splitlines()
    assert lines[0].startswith(f"video {VIDEO}, {read['duration']:.1f} s, ")
    for query, result in zip(read["queries"], expected, strict=True):
        moments = [(moment["start"], moment["end"], moment["score"]) for moment in query["moments"]]
        assert np.allclose(moments, result["moments"][:2], atol=1e-4)
        assert np.allclose(query["saliency"], result["saliency"], atol=1e-4)
        at = lines.index(query["sentence"])
        assert lines[at + 1].split() == ["rank", "start", "s", "end", "s", "score"]
        for rank, (line, (start, end, score)) in enumerate(zip(lines[at + 2 : at + 4], moments, strict=True), 1):
            # The file has one digit more than the table, and rounding it once more may go the other way.
            assert [float(cell) for cell in line.split()] == pytest.approx([rank, start, end, score], abs=0.0052)
            assert line.split()[3] in (f"{score - 1e-4:.3f}", f"{score + 1e-4:.3f}")
    assert f"JSON: {tmp_path / 'new' / 'moments.json'}" in lines
    assert lines[-1] == f"Plot: {tmp_path / 'moments.png'}"
    assert (tmp_path / "moments.png").read_bytes().startswith(b"\x89PNG")


def test_json_on_standard_output(predict, folder, expected):
    output = predict("--features", folder / "kitchen.npy", *sentences_of(SENTENCES[:1]), "--json", "-")
    read = json.loads(output.out)
    assert read["video"] == "kitchen"
    assert len(read["queries"][0]["moments"]) == 5
    assert read["queries"][0]["moments"][0]["score"] == pytest.approx(expected[0]["moments"][0][2], abs=1e-4)


def test_duration(predict, folder):
    output = predict("--features", folder / "kitchen.npy", *sentences_of(SENTENCES[:1]), "--duration", 100)
    assert output.out.startswith("video kitchen, 100.0 s, ")


def test_true_moments_are_drawn_for_each_sentence(predict, folder, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr("mesm_plugin.visualization.draw_timelines", lambda samples, **options: drawn.extend(samples))
    monkeypatch.setattr("mesm_plugin.visualization.figure_file.save_figure", lambda figure, path: None)
    arguments = ["--features", folder / "kitchen.npy", *sentences_of(SENTENCES), "--plot", tmp_path / "x.png"]
    predict(*arguments, "--moment", 1, 2, "--moment", 3, 4)
    predict(*arguments, "--moment", 5, 6)
    assert [[moments.tolist() for moments in sample.gt_moments] for sample in drawn] == [
        [[[1.0, 2.0]], [[3.0, 4.0]]],
        [[[5.0, 6.0]], [[5.0, 6.0]]],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--features", "features.hdf5"], "features.hdf5 holds 3 videos; say which one is meant"),
        (["--features", "features.hdf5", "--video", "x"], "features.hdf5 has no features of video x (it holds 3"),
        (["--features", "nothing.hdf5", "--video", "x"], "nothing.hdf5"),
        (["--features", "kitchen.npy", "kitchen.npy"], "got 2 feature arrays, expected 1"),
        (["--features", "kitchen.npy", "--duration", "-3"], "the duration is -3.0, expected seconds > 0"),
        (["--features", "kitchen.npy", "--top", "0"], "--top is 0, expected at least 1"),
        (["--features", "kitchen.npy", "--sentence", "xyzzy blorp"], "'xyzzy blorp': none of its words"),
        (["--features", "kitchen.npy", "--device", "nonsense"], "device 'nonsense' cannot be used"),
        (["--features", "kitchen.npy", "--plot", "x.txt"], "x.txt: its ending should be one of"),
        (["--features", "kitchen.npy", "--moment", "8", "3"], "--moment 8.0 3.0 is no moment"),
        (
            ["--features", "kitchen.npy", *["--moment", "1", "2"] * 3],
            "3 --moment for 1 --sentence, expected one for each",
        ),
    ],
)
def test_bad_input(predict, folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    given = [] if "--sentence" in arguments else sentences_of(SENTENCES[:1])
    output = predict(*arguments, *given)
    assert output.code == 2
    assert message in output.err
    assert "Traceback" not in output.err


def test_endings_of_pictures_are_checked_before_the_work(predict, folder, tmp_path):
    files = ["--features", folder / "kitchen.npy", "--json", tmp_path / "moments.json", "--plot", tmp_path / "x.docx"]
    assert predict(*files, *sentences_of(SENTENCES)).code == 2
    assert list(tmp_path.iterdir()) == []


def test_nan_in_features(predict, tmp_path):
    np.save(tmp_path / "broken.npy", np.full((5, 8), np.nan))
    output = predict("--features", tmp_path / "broken.npy", *sentences_of(SENTENCES[:1]))
    assert output.code == 2
    assert f"{tmp_path / 'broken.npy'}: nan in clip 0" in output.err
