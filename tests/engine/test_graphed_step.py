# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Steps replayed from graphs, on a CPU with recorded operations in place of CUDA's; nothing here ran on a GPU."""

import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import LoggerHook
from mmengine.logging import MessageHub

from mesm_plugin.datasets.length_buckets import LengthBuckets
from mesm_plugin.engine.graphed_step import GraphedStep, shape_key
from mesm_plugin.engine.guarded_optim_wrapper import GuardedOptimWrapper
from mesm_plugin.engine.hooks import DeferredRuntimeInfoHook, NonFiniteHook
from mesm_plugin.engine.hooks.cuda_graph_hook import make_capturable
from mesm_plugin.registry import MODELS
from tests.engine.recorded_graph import replace_cuda


def wrapper_of(model):
    first, *others = model.parameters()
    groups = [{"params": [first], "lr": 1e-2}, {"params": others}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3, weight_decay=0.1)
    return GuardedOptimWrapper(optimizer=optimizer, clip_grad={"max_norm": 0.5})


def state_of(model, optim_wrapper):
    states = optim_wrapper.optimizer.state.values()
    return [*model.parameters(), *(x for state in states for x in state.values())]


@pytest.fixture
def model(mesm_config):
    torch.manual_seed(0)
    return MODELS.build(mesm_config)


def test_replayed_steps_are_those_of_a_usual_run(model, make_batch, monkeypatch):
    usual = copy.deepcopy(model)
    # Of two shapes: each is run once, captured, and replayed with other numbers and another learning rate.
    batches = [make_batch([6, 5], queries, seed=seed) for seed, queries in enumerate([[1, 2], [2, 2]] * 3)]
    batches = [{**batch, "inputs": LengthBuckets((6,), (8,), 1).pad(batch["inputs"])} for batch in batches]
    replayed_by, usual_by = wrapper_of(model), wrapper_of(usual)
    make_capturable(replayed_by.optimizer)
    graphs = replace_cuda(monkeypatch, lambda: state_of(model, replayed_by))
    step = GraphedStep(model, max_graphs=2, warmup=1)
    for number, batch in enumerate(batches):
        for wrapper in (replayed_by, usual_by):
            for group in wrapper.optimizer.param_groups:
                group["lr"] *= 0.5
        if number == 4:
            # Left out by both.
            batch["inputs"]["video"][0, 0, 0] = torch.nan
        losses = step(batch, replayed_by)
        expected = usual.train_step(batch, usual_by)
        assert replayed_by.record.finite == usual_by.record.finite == (number != 4)
        assert replayed_by.record.sound.equal(usual_by.record.sound)
        assert replayed_by.record.broken() <= {id(p) for p in model.parameters()}
        torch.testing.assert_close(replayed_by.record.norm, usual_by.record.norm, equal_nan=True)
        torch.testing.assert_close(losses, dict(expected), equal_nan=True)
        assert len(graphs) == max(0, min(2, number - 1))
    # Adam makes much of the rounding of gradients that would be zero.
    torch.testing.assert_close(dict(model.named_parameters()), dict(usual.named_parameters()), rtol=1e-3, atol=1e-4)
    assert all(isinstance(group["lr"], float) for group in replayed_by.optimizer.param_groups)


def test_the_graphs_used_last_are_kept(model, make_batch, monkeypatch):
    optim_wrapper = wrapper_of(model)
    make_capturable(optim_wrapper.optimizer)
    graphs = replace_cuda(monkeypatch, lambda: state_of(model, optim_wrapper))
    step = GraphedStep(model, max_graphs=1, warmup=1)
    first, second = make_batch([4, 3], [1, 1]), make_batch([4, 3], [1, 2])
    for batch in (first, second, first, second, first):
        losses = step(batch, optim_wrapper)
    assert len(graphs) == 3
    kept = {name: x.clone() for name, x in losses.items()}
    step(first, optim_wrapper)
    assert len(graphs) == 3
    torch.testing.assert_close(losses, kept, msg="a later step changed losses that were returned")


def test_a_replayed_step_is_read_when_it_is_logged(model, make_batch, monkeypatch):
    optim_wrapper = wrapper_of(model)
    make_capturable(optim_wrapper.optimizer)
    replace_cuda(monkeypatch, lambda: state_of(model, optim_wrapper))
    step = GraphedStep(model, max_graphs=1, warmup=1)
    warnings = []
    hooks = [LoggerHook(interval=6), DeferredRuntimeInfoHook(), NonFiniteHook()]
    runner = SimpleNamespace(
        optim_wrapper=optim_wrapper,
        hooks=hooks,
        message_hub=MessageHub.get_instance("graphed_step"),
        train_dataloader=range(100),
        logger=SimpleNamespace(warning=warnings.append),
    )
    reads = []

    def count_reads(name):
        usual = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda x, *args: reads.append(name) or usual(x, *args))

    for name in ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__"):
        count_reads(name)
    norms = []
    for number in range(6):
        batch = make_batch([4, 3], [1, 1], seed=number)
        if number == 3:
            batch["inputs"]["video"][0, 0, 0] = torch.nan
        runner.iter = number
        reads.clear()
        losses = step(batch, optim_wrapper)
        norms.append(optim_wrapper.record.norm.clone())
        # Later steps are replayed.
        assert number < 2 or not reads
        for hook in hooks[1:]:
            hook.after_train_iter(runner, number, batch, losses)
        assert number < 2 or bool(reads) == (number == 5)
    logged = runner.message_hub.get_scalar("train/grad_norm").data[0]
    assert list(logged) == [float(norm) for number, norm in enumerate(norms) if number != 3]
    assert len(runner.message_hub.get_scalar("train/loss").data[0]) == 6
    assert len(warnings) == 1
    assert "not finite in step 4, videos" in warnings[0]


def test_a_step_that_waits_for_the_device_is_not_captured(model, make_batch, monkeypatch):
    optim_wrapper = wrapper_of(model)
    replace_cuda(monkeypatch, lambda: state_of(model, optim_wrapper))
    make_capturable(optim_wrapper.optimizer)
    monkeypatch.setattr(
        model, "parse_losses", lambda losses: (losses["loss_span"], {"loss": losses["loss_span"].item()})
    )
    step = GraphedStep(model, max_graphs=1, warmup=1)
    batch = make_batch([4, 3], [1, 1])
    step._seen[shape_key(batch["inputs"])] = 1
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        step(batch, optim_wrapper)


def test_shapes_and_kinds_of_inputs_tell_graphs_apart(make_batch):
    keys = {
        shape_key(make_batch(clips, queries, training=training)["inputs"])
        for clips, queries, training in (
            ([6, 5], [1, 2], True),
            ([6, 4], [2, 1], True),
            ([7, 5], [1, 2], True),
            ([6, 5], [1, 1], True),
            ([6, 5], [1, 2], False),
        )
    }
    assert len(keys) == 4
