# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""MMEngine's own runner, as the tools of other codebases use it, with guarded checkpoints."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mesm_plugin.engine.checkpoint import CheckpointError

SMALL = {"dims": 16, "heads": 2, "ffn_dims": 16, "video_dims": 10, "text_dims": 8}


def runner_of(folder: Path, grounder: str, epochs: int = 1, **options: Any) -> Runner:
    sizes = {"feature_dim": 8, "word_dim": 8}
    loader = {
        "batch_size": 2,
        "num_workers": 0,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "collate_fn": {"type": "collate_grounding", "training": True},
        "dataset": {"type": "SyntheticDataset", "split": "train", "num_videos": 2, **sizes},
    }
    DefaultScope._instance_dict.clear()
    config = {
        "model": {"type": grounder, **SMALL},
        "work_dir": str(folder),
        "train_dataloader": loader,
        "train_cfg": {"by_epoch": True, "max_epochs": epochs},
        "optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 1e-3}},
        "custom_hooks": [{"type": "CheckpointGuardHook"}],
        "default_scope": "mesm_plugin",
        "experiment_name": f"guard_{folder.name}_{grounder}_{epochs}_{len(options)}",
        **options,
    }
    return Runner.from_cfg(Config(config))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    runner_of(folder, "QDDETR").train()
    return folder


def test_training_goes_on(trained: Path) -> None:
    before = torch.load(trained / "epoch_1.pth", weights_only=False)["state_dict"]["moment_head.label.bias"]
    runner = runner_of(trained, "QDDETR", epochs=2, resume=True)
    runner.train()
    assert runner.epoch == 2
    after = torch.load(trained / "epoch_2.pth", weights_only=False)["state_dict"]["moment_head.label.bias"]
    assert 0 < np.abs((after - before).numpy()).max() < 0.01


@pytest.mark.parametrize("options", [{"resume": True}, {"load_from": "epoch_1.pth"}])
def test_checkpoint_of_another_grounder_is_refused(trained: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    folder = trained if "resume" in options else tmp_path
    if "load_from" in options:
        options = {"load_from": str(trained / options["load_from"])}
    expected = (
        r"epoch_\d.pth was trained for QDDETR with CrossAttentionAligner, but this config builds EaTR with Concat"
    )
    with pytest.raises(CheckpointError, match=expected):
        runner_of(folder, "EaTR", **options).train()
