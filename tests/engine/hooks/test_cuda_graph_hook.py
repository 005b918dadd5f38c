# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What the switch for CUDA graphs refuses and prepares; nothing here ran on a GPU."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn
from torch.utils.data import DataLoader

from mesm_plugin.datasets import BucketedCollate, SyntheticDataset, collate_grounding
from mesm_plugin.engine.graphed_step import GraphedStep
from mesm_plugin.engine.guarded_optim_wrapper import GuardedOptimWrapper
from mesm_plugin.engine.hooks import cuda_graph_hook
from mesm_plugin.engine.hooks.cuda_graph_hook import check_capturable, make_capturable
from mesm_plugin.registry import HOOKS

GPU = torch.device("cuda")


def wrapper(optimizer=torch.optim.AdamW, **options):
    return GuardedOptimWrapper(optimizer=optimizer(nn.Linear(2, 1).parameters(), lr=1e-3), **options)


@pytest.mark.parametrize("name", ["clip_buckets", "word_buckets", "max_graphs", "warmup"])
def test_numbers_are_positive(name):
    with pytest.raises(ValueError, match=f"{name} of CudaGraphHook is 0, expected at least 1"):
        HOOKS.build({"type": "CudaGraphHook", name: 0})


def test_what_cannot_be_captured_is_named(monkeypatch):
    check_capturable(wrapper(), GPU)
    with pytest.raises(
        ValueError, match="needs a model on a GPU, but it is on 'cpu'. Change that, or leave the hook out"
    ):
        check_capturable(wrapper(), torch.device("cpu"))
    with pytest.raises(ValueError, match="needs optim_wrapper.type='GuardedOptimWrapper', got 'OptimWrapper'"):
        check_capturable(OptimWrapper(torch.optim.AdamW(nn.Linear(2, 1).parameters())), GPU)
    with pytest.raises(ValueError, match="'capturable' and 'fused', such as AdamW, got Rprop"):
        check_capturable(wrapper(torch.optim.Rprop), GPU)
    with pytest.raises(ValueError, match="accumulative_counts of 1, got 4"):
        check_capturable(wrapper(accumulative_counts=4), GPU)
    scaled = wrapper()
    monkeypatch.setattr(scaled.scaler, "is_enabled", lambda: True)
    with pytest.raises(ValueError, match="dtype is 'float16'"):
        check_capturable(scaled, GPU)
    monkeypatch.setattr(cuda_graph_hook, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match="needs one process, got 2"):
        check_capturable(wrapper(), GPU)


def test_a_resumed_optimiser_counts_on_the_device():
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    optimizer.state[layer.weight]["step"] = 7
    make_capturable(optimizer)
    assert optimizer.param_groups[0]["capturable"]
    assert optimizer.param_groups[0]["fused"]
    assert optimizer.state[layer.weight]["step"].equal(torch.tensor(7.0))
    optimizer.step()
    assert optimizer.state[layer.weight]["step"].item() == 8


def test_the_run_is_prepared(monkeypatch):
    monkeypatch.setattr(cuda_graph_hook, "check_capturable", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    warnings = []
    model = nn.Linear(2, 1)
    model.train_step = None

    def collate(items):
        return collate_grounding(items, training=True)

    loader = DataLoader(SyntheticDataset(split="train", num_videos=4), batch_size=2, collate_fn=collate)
    runner = SimpleNamespace(
        model=model,
        optim_wrapper=wrapper(),
        train_dataloader=loader,
        train_loop=None,
        logger=SimpleNamespace(warning=warnings.append),
    )
    HOOKS.build({"type": "CudaGraphHook"}).before_train(runner)
    assert isinstance(model.train_step, GraphedStep)
    assert isinstance(loader.collate_fn, BucketedCollate)
    assert runner.optim_wrapper.optimizer.param_groups[0]["capturable"]
    assert "never tried on a GPU" in warnings[0]
