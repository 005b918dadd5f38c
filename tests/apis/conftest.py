# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A tiny model with random weights."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from mesm_plugin.engine.config_loading import read_config

SMALL = [
    "model.dims=16",
    "model.heads=2",
    "model.ffn_dims=16",
    "model.video_dims=10",
    "model.text_dims=8",
    "model.aligner.frame_word.token_dims=8",
    "test_dataloader.dataset.num_videos=2",
    "test_dataloader.dataset.feature_dim=8",
    "test_dataloader.dataset.word_dim=8",
]


@pytest.fixture(scope="session")
def config():
    return read_config("mesm_synthetic", SMALL)


@pytest.fixture(scope="session")
def checkpoint(config, tmp_path_factory):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(config.model)
    path = tmp_path_factory.mktemp("checkpoint") / "random.pth"
    torch.save({"state_dict": model.state_dict()}, path)
    return path
