# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm predict` with several models, with annotated queries and with frames."""

import json

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS

from mesm_plugin.apis import GroundingInferencer
from mesm_plugin.datasets import SyntheticFeatures
from mesm_plugin.engine.config_loading import read_config

SENTENCE = ["--sentence", "the boy reads a book"]


@pytest.fixture(scope="module")
def last(trained):
    return trained.work_dir / "epoch_2.pth"


@pytest.fixture(scope="module")
def other(trained, small, tmp_path_factory):
    """Config and checkpoint of another grounder with another number of channels."""
    import torch
    from mmengine.registry import MODELS, DefaultScope

    folder = tmp_path_factory.mktemp("other")
    config = read_config("mesm_synthetic", small)
    config.merge_from_dict({"model.video_dims": 12, "test_dataloader.dataset.feature_dim": 10})
    config.model.aligner = {"type": "CrossAttentionAligner"}
    config.dump(folder / "qd_detr.py")
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        torch.save({"state_dict": MODELS.build(config.model).state_dict()}, folder / "qd_detr.pth")
    return folder / "qd_detr.py", folder / "qd_detr.pth"


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    for dim in (8, 10):
        np.save(folder / f"kitchen_{dim}.npy", SyntheticFeatures(dim=dim, word_dim=8)["synthetic_test_00001"])
    return folder


@pytest.fixture(scope="module")
def predict(command, trained, small):
    def run(*arguments):
        return command("predict", "mesm_synthetic", trained.best, "--cfg-options", *small, *arguments)

    return run


@pytest.fixture(scope="module")
def dataset(small):
    dataset = DATASETS.build(read_config("mesm_synthetic", small).test_dataloader.dataset)
    dataset.full_init()
    return dataset


def moments_of(query):
    return [(moment["start"], moment["end"], moment["score"]) for moment in query["moments"]]


def test_models_with_features_of_their_own(predict, other, features, small, trained, tmp_path):
    output = predict(
        *["--features", features / "kitchen_8.npy", *SENTENCE, "--moment", 3, 9, "--top", 2],
        *["--compare", *other, "--compare-features", features / "kitchen_10.npy"],
        *["--label", "MESM", "--label", "QD-DETR", "--json", tmp_path / "x.json", "--plot", tmp_path / "x.png"],
    )
    assert (output.code, output.err) == (0, "")
    models = json.loads((tmp_path / "x.json").read_text())["models"]
    assert [model["label"] for model in models] == ["MESM", "QD-DETR"]
    assert [model["checkpoint"] for model in models] == [str(trained.best), str(other[1])]
    for model, (config, checkpoint, dim) in zip(
        models,
        ((read_config("mesm_synthetic", small), trained.best, 8), (str(other[0]), other[1], 10)),
        strict=True,
    ):
        (expected,) = GroundingInferencer(config, checkpoint)(np.load(features / f"kitchen_{dim}.npy"), SENTENCE[1])
        (query,) = model["queries"]
        assert query["true_moments"] == [[3, 9]]
        assert np.allclose(moments_of(query), expected["moments"][:2], atol=1e-4)
    lines = output.out.splitlines()
    rows = [lines[lines.index(f"  {label}") + 2].split() for label in ("MESM", "QD-DETR")]
    for row, model in zip(rows, models, strict=True):
        assert [float(cell) for cell in row] == pytest.approx([1, *moments_of(model["queries"][0])[0]], abs=0.006)
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_annotated_query_is_predicted_as_in_testing(predict, last, other, dataset, small, trained, tmp_path):
    info = dataset.get_data_info(1)
    query = info["queries"][1]
    output = predict(
        *["--query", query["qid"], "--json", tmp_path / "x.json", "--plot", tmp_path / "x.pdf", "--top", 3],
        *["--compare", "mesm_synthetic", last, "--compare-options", *small, "--compare", *other],
        *["--label", "best", "--label", "last", "--label", "other"],
    )
    assert (output.code, output.err) == (0, "")
    record = json.loads((tmp_path / "x.json").read_text())
    assert (record["video"], record["duration"]) == (info["vid"], info["duration"])
    model = GroundingInferencer(read_config("mesm_synthetic", small), trained.best)
    expected = model(dataset.features[info["vid"]], query["sentence"], info["duration"])[0]
    for result in record["models"]:
        (written,) = result["queries"]
        assert (written["qid"], written["sentence"]) == (query["qid"], query["sentence"])
        assert np.allclose(written["true_moments"], query["moments"])
    assert np.allclose(moments_of(record["models"][0]["queries"][0]), expected["moments"][:3], atol=1e-4)
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")


def test_log_is_no_part_of_json(predict, monkeypatch):
    from mesm_plugin.datasets import SyntheticDataset

    load = SyntheticDataset.load_data_list
    monkeypatch.setattr(SyntheticDataset, "load_data_list", lambda self: print("noise") or load(self))
    output = predict("--query", "0", "--json", "-")
    assert json.loads(output.out)["video"] == "synthetic_test_00000"
    assert "noise" in output.err


def test_query_of_another_split(predict):
    output = predict("--query", "0", "--split", "val")
    assert output.out.startswith("video synthetic_val_00000")


def test_labels_are_the_names_of_configs(predict, last, other, small, tmp_path):
    output = predict("--query", "0", "--compare", *other)
    assert "\n  mesm_synthetic\n" in output.out
    assert "\n  qd_detr\n" in output.out
    output = predict("--query", "0", "--compare", "mesm_synthetic", last, "--compare-options", *small)
    assert "\n  2: epoch_2\n" in output.out


def test_frames(predict, features, monkeypatch, tmp_path):
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((48, 64, 3), 100 * number, dtype=np.uint8))
    drawn = []
    monkeypatch.setattr("mesm_plugin.visualization.draw_comparison", lambda *arguments: drawn.append(arguments))
    monkeypatch.setattr("mesm_plugin.visualization.figure_file.save_figure", lambda figure, path: None)
    output = predict(
        *["--features", features / "kitchen_8.npy", *SENTENCE, "--frames", tmp_path, "--plot", tmp_path / "x.png"]
    )
    assert output.code == 0
    ((samples, labels, frames),) = drawn
    assert (len(samples), labels) == (1, ["mesm_synthetic"])
    brightness = [float(frame.mean()) for frame in frames]
    assert len(frames) >= 6
    assert set(brightness) == {0.0, 100.0, 200.0}
    assert brightness == sorted(brightness)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--query", "999"], "SyntheticDataset has no query with the id 999; it has "),
        (["--query", "0", "--sentence", "x"], "--sentence does not go with --query"),
        (["--query", "0", "--duration", "3"], "--duration does not go with --query"),
        (["--features", "kitchen_8.npy"], "--sentence is missing"),
        (["--features", "kitchen_8.npy", *SENTENCE, "--split", "val"], "--split is the split of --query"),
        (["--features", "kitchen_8.npy", *SENTENCE, "--frames", "x"], "--plot, where to draw it, is not given"),
        (["--query", "0", "--frames", "x.mp4", "--plot", "x.png"], "frames: x.mp4 does not exist"),
        (["--query", "0", "--label", "a", "--label", "b"], "got 2 --label, expected 1, first that of CHECKPOINT"),
        (["--query", "0", "--label", "a", "--label", "a", "--compare", "OTHER"], "--label 'a' is given twice"),
        (["--query", "0", "--compare", "OTHER", "--compare-options", "model.dims=32"], "of another shape"),
        (["--query", "0", "--compare", "OTHER", "--compare-features", "x"], "--compare-features does not go with"),
        (
            ["--features", "kitchen_8.npy", *SENTENCE, "--compare", "OTHER"],
            "of kitchen_8.npy have 8 channels, the model",
        ),
        (["--features", "kitchen_8.npy", *SENTENCE, "--moment", "90", "95"], "starts after the end of the video"),
        (
            ["--query", "0", "--compare", "OTHER", "--compare-options", "test_dataloader.dataset.seed=3"],
            "the configs have other data sets",
        ),
    ],
)
def test_bad_input(predict, features, other, monkeypatch, arguments, message):
    monkeypatch.chdir(features)
    filled = [part for argument in arguments for part in (other if argument == "OTHER" else (argument,))]
    output = predict(*filled)
    assert output.code == 2
    assert message in output.err
    assert "Traceback" not in output.err


def test_options_of_no_model(predict, capsys):
    with pytest.raises(SystemExit):
        predict("--query", "0", "--compare-features", "x.npy")
