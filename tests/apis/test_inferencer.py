# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Grounding of new sentences in new videos."""

import copy

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS

from mesm_plugin.apis import GroundingInferencer
from mesm_plugin.datasets import SyntheticFeatures, collate_grounding
from mesm_plugin.engine.checkpoint import CheckpointError
from mesm_plugin.engine.config_loading import ConfigError


@pytest.fixture(scope="module")
def inferencer(config, checkpoint):
    return GroundingInferencer(config, checkpoint)


@pytest.fixture(scope="module")
def dataset(config):
    return DATASETS.build(config.test_dataloader.dataset)


@pytest.fixture(scope="module")
def features():
    return SyntheticFeatures(dim=8, word_dim=8, normalize=False, noise=0.5)["synthetic_test_00000"]


def test_same_predictions_as_testing(inferencer, dataset):
    item = dataset[0]
    expected = inferencer.model.test_step(collate_grounding([item], training=False))[0]
    raw = dataset.features["synthetic_test_00000"] * 7.5
    results = inferencer(raw, expected.sentences, duration=expected.duration)
    assert [result["sentence"] for result in results] == expected.sentences
    for result, moments, saliency in zip(results, expected.pred_moments, expected.pred_saliency, strict=True):
        assert np.allclose(result["moments"], moments, atol=1e-4)
        assert np.allclose(result["saliency"], saliency, atol=1e-4)
        scores = [score for _, _, score in result["moments"]]
        assert scores == sorted(scores, reverse=True)


def test_video_is_encoded_once_for_all_sentences(inferencer, features):
    shapes = []
    handle = inferencer.model.video_projection.register_forward_hook(
        lambda module, inputs, output: shapes.append(tuple(inputs[0].shape))
    )
    sentences = ["the boy reads a book", "a girl closes a laptop", "a man folds a newspaper"]
    together = inferencer(features, sentences, duration=27.0)
    assert shapes == [(1, len(features), 10)]
    handle.remove()
    alone = inferencer(features, sentences[1], duration=27.0)
    assert len(alone) == 1
    assert np.allclose(alone[0]["moments"], together[1]["moments"], atol=1e-4)


def test_duration_from_the_clip_length(inferencer, features):
    sample = inferencer.ground(features, ["the boy reads a book"], vid="mine")
    assert sample.vid == "mine"
    assert sample.duration == len(features) * 1.0
    twice = inferencer.ground(features, ["the boy reads a book"], duration=2.0 * len(features))
    assert np.allclose(twice.pred_moments[0][:, :2], 2 * sample.pred_moments[0][:, :2])


def test_training_state_and_gradients_are_off(inferencer, features):
    assert not inferencer.model.training
    assert inferencer(features, "the boy reads a book") == inferencer(features, "the boy reads a book")


def test_features_that_do_not_fit(inferencer, features):
    with pytest.raises(ValueError, match="the features have 7 channels, the model expects 8"):
        inferencer(features[:, :7], "the boy reads a book")
    broken = features.copy()
    broken[2, 3] = np.inf
    with pytest.raises(ValueError, match="inf in clip 2, channel 3"):
        inferencer(broken, "the boy reads a book")


def test_sentences_that_do_not_fit(inferencer, features):
    with pytest.raises(ValueError, match="there is no sentence"):
        inferencer(features, [])
    with pytest.raises(ValueError, match="sentence 'xyzzy': none of its words"):
        inferencer(features, ["the boy reads a book", "xyzzy"])


@pytest.mark.parametrize("duration", [0.0, -1.0, float("nan"), float("inf")])
def test_duration_that_makes_no_sense(inferencer, features, duration):
    with pytest.raises(ValueError, match=r"the duration is .*, expected seconds > 0"):
        inferencer(features, "the boy reads a book", duration)


def test_duration_is_needed_without_a_clip_length(inferencer, features, monkeypatch):
    monkeypatch.setattr(inferencer.dataset, "clip_length", None)
    with pytest.raises(ValueError, match="the config has no clip length, so the duration of the video has to be given"):
        inferencer(features, "the boy reads a book")


def test_checkpoint_of_another_model(config, tmp_path):
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"does not fit the model DETRGrounder .* 1 unexpected \(weight\)"):
        GroundingInferencer(config, tmp_path / "other.pth")


def test_misspelt_key(config, checkpoint):
    misspelt = copy.deepcopy(config)
    misspelt.model.dimms = 8
    with pytest.raises(ConfigError, match="DETRGrounder has no argument 'dimms'; did you mean 'dims'"):
        GroundingInferencer(misspelt, checkpoint)


def test_config_without_data(config, checkpoint):
    bare = copy.deepcopy(config)
    for split in ("train", "val", "test"):
        bare.pop(f"{split}_dataloader")
        bare.pop(f"{split}_cfg")
        bare.pop("optim_wrapper" if split == "train" else f"{split}_evaluator")
    with pytest.raises(ConfigError, match="has no dataloader"):
        GroundingInferencer(bare, checkpoint)


def test_device_that_does_not_exist(config, checkpoint):
    with pytest.raises(ValueError, match="device 'nonsense' cannot be used"):
        GroundingInferencer(config, checkpoint, device="nonsense")
