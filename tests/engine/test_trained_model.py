# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What a checkpoint says it was trained for."""

import pytest
from mmengine.config import Config

from mesm_plugin.engine.config_loading import read_config
from mesm_plugin.engine.trained_model import TrainedModel, model_in_checkpoint, model_in_memory
from mesm_plugin.registry import MODELS


def said(text: str) -> TrainedModel | None:
    return model_in_checkpoint({"meta": {"cfg": text}})


@pytest.mark.parametrize("name", ["mesm_synthetic", "qd_detr_charades_clip_slowfast", "uvcom_charades_clip_slowfast"])
def test_checkpoint_and_model_of_a_config_agree(name: str) -> None:
    config = read_config(name)
    model = MODELS.build({**config.model, "dims": 16, "heads": 2, "ffn_dims": 16})
    assert said(config.pretty_text) == model_in_memory(model)


def test_aligner_is_the_one_named_or_the_default_of_the_grounder() -> None:
    qd_detr = {"type": "QDDETR", "aligner": {"num_layers": 3}}
    assert said(Config({"model": qd_detr}).pretty_text) == TrainedModel("QDDETR", "CrossAttentionAligner")
    assert said("model = dict(type='mesm_plugin.MomentDETR')") == TrainedModel("MomentDETR", "ConcatAligner")
    assert said("model = {'type': 'QDDETR', 'aligner': {'type': 'Mine'}}") == TrainedModel("QDDETR", "Mine")
    assert said("model = dict(type='SomethingElse')") == TrainedModel("SomethingElse", None)


@pytest.mark.parametrize("text", ["", "model = 3", "model = dict(dims=3)", "model = (", "models = dict(type='QDDETR')"])
def test_config_without_a_model(text: str) -> None:
    assert said(text) is None


def test_checkpoint_without_a_config() -> None:
    assert model_in_checkpoint({"state_dict": {}}) is None
    assert model_in_checkpoint({"meta": {"epoch": 1}}) is None
    assert model_in_checkpoint({"meta": 3}) is None


def test_text_of_the_config_is_not_run() -> None:
    assert said("import nothing_of_that_name\nraise ValueError\nmodel = dict(type='QDDETR')") is not None


def test_what_is_unknown_does_not_differ() -> None:
    model = TrainedModel("QDDETR", "MESMAligner")
    assert model.is_other_than(TrainedModel("MomentDETR", "MESMAligner"))
    assert model.is_other_than(TrainedModel("QDDETR", "ConcatAligner"))
    assert not model.is_other_than(TrainedModel("QDDETR", None))
    assert str(model) == "QDDETR with MESMAligner"
