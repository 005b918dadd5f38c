# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Bad input is told in one message with exit code 2, and without a traceback."""

import numpy as np
import pytest
import torch
from mmengine import registry as root
from mmengine.registry import Registry

from mesm_plugin.engine.config_loading import shipped_configs

# The nodes of another codebase, which know none of this package's components.
for node in (root.MODELS, root.DATASETS, root.METRICS, root.HOOKS, root.FUNCTIONS):
    Registry(node.name, parent=node, scope="foreign_input")


def fails(output):
    """The message of a command that failed because of its input."""
    assert output.code == 2
    assert "Traceback" not in output.err
    return output.err


@pytest.fixture
def other_model(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"state_dict": {"lin.weight": torch.zeros(2)}, "meta": {"epoch": 1, "iter": 1}}, path)
    return path


def test_misspelt_key(command, tmp_path):
    output = command("train", "mesm_synthetic", "--work-dir", tmp_path, "--cfg-options", "model.ffn_dim=3")
    assert "mesm train: error: " in fails(output)
    assert "model: DETRGrounder has no argument 'ffn_dim'; did you mean 'ffn_dims'" in output.err
    assert output.err.count("\n") == 1


def test_misspelt_key_of_a_part_that_the_model_builds(command, small, tmp_path):
    options = [*small, "model.post_process.round_too=1"]
    output = command("train", "mesm_synthetic", "--work-dir", tmp_path, "--cfg-options", *options)
    assert "MomentPostProcess has no argument 'round_too'; did you mean 'round_to'?" in fails(output)


def test_misspelt_key_at_the_top(command, tmp_path):
    text = "model = dict(type='DETRGrounder')\ntrain_dataloder = dict(batch_size=2)\n"
    (tmp_path / "mine.py").write_text(text)
    output = command("train", tmp_path / "mine.py", "--work-dir", tmp_path)
    assert "mine.py: no key 'train_dataloder' is read; did you mean 'train_dataloader'" in fails(output)


def test_unknown_config(command):
    assert "did you mean mesm_synthetic" in fails(command("train", "mesm_sintetic"))


def test_config_without_training(command, tmp_path):
    (tmp_path / "mine.py").write_text("model = dict(type='DETRGrounder')\n")
    output = command("train", tmp_path / "mine.py", "--work-dir", tmp_path)
    assert "mine.py has no train_dataloader, train_cfg and optim_wrapper to train with" in fails(output)
    output = command("test", tmp_path / "mine.py", "x.pth", "--work-dir", tmp_path)
    assert "mine.py has no test_dataloader, test_cfg and test_evaluator" in fails(output)


def test_checkpoint_of_another_model(command, small, other_model, tmp_path):
    arguments = ["--work-dir", tmp_path, "--cfg-options", *small]
    expected = r"other.pth does not fit the model DETRGrounder with MESMAligner of this config"
    assert expected in fails(command("test", "mesm_synthetic", other_model, *arguments))
    assert "1 unexpected (lin.weight)" in fails(command("test", "mesm_synthetic", other_model, *arguments))
    assert expected in fails(command("train", "mesm_synthetic", "--resume", other_model, *arguments))


def test_checkpoint_that_cannot_be_read(command, small, tmp_path):
    arguments = ["--work-dir", tmp_path, "--cfg-options", *small]
    missing = tmp_path / "nothing.pth"
    assert "nothing.pth does not exist" in fails(command("test", "mesm_synthetic", missing, *arguments))
    assert "nothing.pth does not exist" in fails(command("train", "mesm_synthetic", "--resume", missing, *arguments))
    (tmp_path / "text.pth").write_text("hello")
    output = command("test", "mesm_synthetic", tmp_path / "text.pth", *arguments)
    assert "text.pth (5 bytes) cannot be read as a checkpoint" in fails(output)


def test_option_that_is_none(command):
    assert "option 'model.dims' is not of the form key=value" in fails(
        command("train", "mesm_synthetic", "--cfg-options", "model.dims")
    )


def test_value_that_a_component_refuses(command, small, tmp_path):
    options = [*small, "train_dataloader.dataset.split=trian"]
    output = command("train", "mesm_synthetic", "--work-dir", tmp_path, "--cfg-options", *options)
    assert "split is 'trian', expected one of 'train', 'val', 'test'" in fails(output)


def test_out_needs_our_metric(command, small, trained, tmp_path):
    arguments = ["--out", tmp_path / "x.jsonl", "--work-dir", tmp_path, "--cfg-options", *small]
    output = command("test", "mesm_synthetic", trained.best, *arguments, "test_evaluator.type=DumpResults")
    assert "--out needs a MomentRetrievalMetric as test_evaluator" in fails(output)


def test_debug_shows_the_traceback(command, monkeypatch):
    with pytest.raises(FileNotFoundError):
        command("train", "mesm_sintetic", "--debug")
    monkeypatch.setenv("MESM_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        command("train", "mesm_sintetic")


def test_missing_test_split_shows_before_training(command, small, tmp_path):
    options = [*small, "test_dataloader.dataset.split=tests"]
    output = command("train", "mesm_synthetic", "--work-dir", tmp_path, "--cfg-options", *options)
    assert output.code == 2
    assert "split is 'tests', expected one of" in output.err
    assert "Epoch(train)" not in output.out
    assert not list(tmp_path.glob("epoch_*.pth"))


def test_too_few_classes_of_words(command, small, tmp_path):
    options = [*small, "model.aligner.frame_word.num_word_classes=10"]
    output = command("train", "mesm_synthetic", "--work-dir", tmp_path, "--cfg-options", *options)
    assert output.code == 2
    assert "num_word_classes is 10, but SyntheticText of the training set has 74 classes of words" in output.err


def test_load_from_of_another_model(command, small, other_model, tmp_path):
    output = command(
        "train", "mesm_synthetic", "--work-dir", tmp_path, "--cfg-options", *small, f"load_from={other_model}"
    )
    assert output.code == 2
    assert str(other_model) in output.err


def test_value_that_a_kernel_refuses(command, small, tmp_path):
    output = command("train", "mesm_synthetic", "--work-dir", tmp_path, "--cfg-options", *small, "model.heads=3")
    assert output.code == 2
    assert "heads must divide dims, got dims=16 and heads=3" in output.err


@pytest.fixture
def other_config(tmp_path):
    """Writes a config like that of the quick start, with a model of other classes."""

    def write(model):
        base = shipped_configs()["mesm_synthetic"]
        (tmp_path / "other.py").write_text(f"_base_ = {str(base)!r}\nmodel = {model}\n")
        return tmp_path / "other.py"

    return write


OTHER_MODELS = {
    "EaTR with MESMAligner": "dict(type='EaTR', encoder=dict(_delete_=True), decoder=dict(_delete_=True))",
    "DETRGrounder with CrossAttentionAligner": "dict(aligner=dict(_delete_=True, type='CrossAttentionAligner'))",
    # The same weights by name and shape.
    "QDDETR with MESMAligner": "dict(type='QDDETR')",
}


@pytest.mark.parametrize("other", OTHER_MODELS)
def test_checkpoint_of_another_grounder_or_aligner(command, small, trained, other_config, tmp_path, other):
    config, checkpoint = other_config(OTHER_MODELS[other]), trained.best
    options = [option for option in small if "Cross" not in other or "frame_word" not in option]
    arguments = ["--work-dir", tmp_path / "run", "--cfg-options", *options]
    expected = f"{checkpoint} was trained for DETRGrounder with MESMAligner, but this config builds {other}: "
    assert expected in fails(command("test", config, checkpoint, *arguments))
    assert expected in fails(command("train", config, "--resume", checkpoint, *arguments))
    assert expected in fails(command("train", config, *arguments, f"load_from={checkpoint}"))
    np.save(tmp_path / "video.npy", np.ones((9, 8), dtype=np.float32))
    what = ["--features", tmp_path / "video.npy", "--sentence", "the boy reads.", "--cfg-options", *options]
    assert expected in fails(command("predict", config, checkpoint, *what))


def test_bare_weights(command, small, trained, other_config, tmp_path):
    weights = torch.load(trained.best, weights_only=False)["state_dict"]
    torch.save(weights, tmp_path / "weights.pth")
    arguments = ["--work-dir", tmp_path / "run", "--cfg-options", *small]
    assert command("test", "mesm_synthetic", tmp_path / "weights.pth", *arguments).code == 0
    config = other_config(OTHER_MODELS["EaTR with MESMAligner"])
    message = fails(command("test", config, tmp_path / "weights.pth", *arguments))
    assert "weights.pth does not fit the model EaTR with MESMAligner of this config" in message
    assert "the file does not say what it was trained for. Give the config that" in message


NEAR_NAMES = [
    ("model.aligner.type=MESMAlinger", "there is no model 'MESMAlinger'; did you mean 'MESMAligner'"),
    ("model.aligner.frame_word.type=FrameWord", "no model 'FrameWord'; did you mean 'FrameWordEnhancer'"),
    ("model.saliency_losses.0.type=RankContrastLoss", "did you mean 'RankContrastiveLoss'"),
    ("model.saliency_head.type=GlobalTokenHead", "did you mean 'GlobalTokenSaliencyHead'"),
    ("train_dataloader.dataset.type=SynteticDataset", "no dataset 'SynteticDataset'; did you mean 'SyntheticDataset'"),
    ("val_evaluator.type=MomentMetric", "there is no metric 'MomentMetric'; did you mean 'MomentRetrievalMetric'"),
    ("custom_hooks.0.type=PredictionPlot", "there is no hook 'PredictionPlot'; did you mean 'PredictionPlotHook'"),
    ("train_dataloader.collate_fn.type=collate", "there is no function 'collate'; did you mean '"),
]


@pytest.mark.parametrize("scope", ["mesm_plugin", "foreign_input"])
@pytest.mark.parametrize(("option", "expected"), NEAR_NAMES)
def test_unknown_type_lists_near_names(command, small, tmp_path, option, expected, scope):
    options = [*small, option, f"default_scope={scope}"]
    output = command("train", "mesm_synthetic", "--work-dir", tmp_path, "--cfg-options", *options)
    assert expected in fails(output)
