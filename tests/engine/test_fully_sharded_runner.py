# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Sharded training gives the checkpoints of DistributedDataParallel, and each resumes the other."""

import copy
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from bench.process_group import in_process_group
from mesm_plugin.datasets import collate_grounding
from mesm_plugin.engine import fully_sharded_runner
from mesm_plugin.registry import MODELS
from tests.cli.conftest import SMALL, mesm
from tests.conftest import random_items

SHARDED = "runner_type=FullyShardedRunner"
# An odd number of queries in each process, and a process without a batch in validation.
OPTIONS = [*SMALL, "train_dataloader.batch_size=1", "val_dataloader.dataset.num_videos=1"]


def work(rank: int, folder: str) -> None:
    os.environ["MASTER_ADDR"] = "127.0.0.1"

    def train(name: str, *options: str, resume: bool = False) -> None:
        arguments = ["--work-dir", f"{folder}/{name}", "--seed", 1, "--launcher", "pytorch"]
        output = mesm(
            "train", "mesm_synthetic", *arguments, *["--resume"] * resume, "--cfg-options", *OPTIONS, *options
        )
        assert output.code == 0, output.err[-3000:]

    sharded: list[nn.Module] = []
    shard = fully_sharded_runner.fully_sharded

    def watched(model: nn.Module) -> nn.Module:
        sharded.append(shard(model))
        weights = [p for p in model.parameters() if len(p) > 1]
        assert weights
        assert all(isinstance(p, DTensor) and p.to_local().numel() < p.numel() for p in weights)
        return model

    fully_sharded_runner.fully_sharded = watched
    train("sharded", SHARDED)
    train("replicated")
    assert len(sharded) == 1
    for name in ("sharded", "replicated"):
        if rank == 0:
            shutil.copytree(f"{folder}/{name}", f"{folder}/{name}_resumed")
        dist.barrier()
    longer = "train_cfg.max_epochs=3"
    train("sharded_resumed", longer, resume=True)
    train("replicated_resumed", longer, SHARDED, resume=True)

    # As on a device, where the host reads nothing in a step.
    torch.Tensor.is_cpu = False  # type: ignore[assignment]
    options = ["optim_wrapper.optimizer.lr=1e30", "custom_hooks.3.max_skipped=2", "default_hooks.logger.interval=1"]
    arguments = ["--work-dir", f"{folder}/broken", "--seed", 1, "--launcher", "pytorch"]
    output = mesm("train", "mesm_synthetic", *arguments, "--cfg-options", *OPTIONS, SHARDED, *options)
    assert output.code == 2, output.err[-3000:]
    assert "training ends after 2 such steps in a row" in output.err, output.err[-3000:]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    in_process_group(work, 2, str(folder))
    return folder


def numbers(file: Path) -> dict[str, Any]:
    checkpoint = torch.load(file, weights_only=False)
    state = checkpoint["optimizer"]["state"]
    assert len(state) > 100
    moments = {f"{key} {name}": value for key, values in state.items() for name, value in values.items()}
    return {**checkpoint["state_dict"], **moments}


@pytest.mark.parametrize(
    ("sharded", "replicated"),
    [
        ("sharded/epoch_2.pth", "replicated/epoch_2.pth"),
        # Of the first, the beginning was sharded; of the second, the end.
        ("sharded_resumed/epoch_3.pth", "replicated_resumed/epoch_3.pth"),
    ],
)
def test_checkpoints_are_those_of_data_parallel(runs, sharded, replicated):
    ours, theirs = numbers(runs / sharded), numbers(runs / replicated)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert type(value) is torch.Tensor, name
        torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_one_process_scores_a_checkpoint_of_several(runs, tmp_path):
    scores = [
        mesm("test", "mesm_synthetic", runs / name / "epoch_2.pth", "--work-dir", tmp_path, "--cfg-options", *OPTIONS)
        for name in ("sharded", "replicated")
    ]
    assert scores[0].code == 0, scores[0].err
    assert scores[0].scores == scores[1].scores


@pytest.mark.parametrize("file", ["non_finite.pth", "non_finite_1.pth"])
def test_broken_steps_are_saved_whole(runs, file):
    saved = torch.load(runs / "broken" / file, weights_only=True)
    whole = torch.load(runs / "sharded" / "epoch_2.pth", weights_only=False)["state_dict"]
    assert saved["broken"]
    assert set(saved["broken"]) <= saved["state_dict"].keys()
    assert {name: value.shape for name, value in saved["state_dict"].items()} == {
        name: value.shape for name, value in whole.items()
    }
    assert all(type(value) is torch.Tensor and value.isfinite().all() for value in saved["state_dict"].values())
    moments = [value for state in saved["optimizer"]["state"].values() for value in state.values()]
    assert all(type(value) is torch.Tensor for value in moments)


GROUNDERS: dict[str, dict[str, Any]] = {
    "CGDETR": {},
    "DETRGrounder": {"aligner": {"frame_word": {"num_word_classes": 21}}},
    "EaTR": {},
    "MomentDETR": {},
    "QDDETR": {},
    "TRDETR": {},
    "UVCOM": {},
}
SIZES = {"video_dims": 10, "text_dims": 8, "dims": 16, "heads": 2, "ffn_dims": 16}


def steps(model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Losses of a few steps, and the weights after them."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    values = {}
    for step in range(3):
        losses = model(inputs, mode="loss")
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        values |= {f"{name} of step {step}": value.detach() for name, value in losses.items()}
    weights = fully_sharded_runner.whole(model.state_dict())
    return values | {name.removeprefix("module."): value.clone() for name, value in weights.items()}


def both_ways(rank: int, folder: str) -> None:
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    clips, queries = (([9, 5], [2, 1]), ([7, 8], [1, 3]))[rank]
    inputs = collate_grounding(random_items(clips, queries, seed=rank), training=True)["inputs"]
    results = {}
    for name, parts in GROUNDERS.items():
        torch.manual_seed(0)
        model = MODELS.build({"type": name, **SIZES, **parts})
        replicated = DistributedDataParallel(copy.deepcopy(model), find_unused_parameters=True)
        results[name] = (steps(fully_sharded_runner.fully_sharded(model), inputs), steps(replicated, inputs))
    torch.save(results, f"{folder}/results_{rank}.pth")


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> list[dict[str, tuple[dict[str, Tensor], dict[str, Tensor]]]]:
    folder = tmp_path_factory.mktemp("results")
    in_process_group(both_ways, 2, str(folder))
    return [torch.load(folder / f"results_{rank}.pth") for rank in range(2)]


@pytest.mark.parametrize("grounder", GROUNDERS)
def test_every_grounder_trains_as_with_data_parallel(results, grounder):
    for sharded, replicated in (result[grounder] for result in results):
        assert sharded.keys() == replicated.keys()
        assert len(sharded) > 100
        for name, value in sharded.items():
            torch.testing.assert_close(value, replicated[name], rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
