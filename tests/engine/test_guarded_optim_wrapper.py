# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Steps that are taken and steps that are left out."""

import copy

import pytest
import torch
from mmengine.logging import MessageHub
from torch import nn

from mesm_plugin.engine.guarded_optim_wrapper import GuardedOptimWrapper, fuse


@pytest.fixture
def layer():
    layer = nn.Linear(2, 1, bias=False)
    nn.init.ones_(layer.weight)
    return layer


def wrapper_of(layer, **kwargs):
    MessageHub._instance_dict.clear()
    return GuardedOptimWrapper(optimizer=torch.optim.SGD(layer.parameters(), lr=1.0), **copy.deepcopy(kwargs))


def step(wrapper, layer, inputs):
    with wrapper.optim_context(layer):
        loss = layer(torch.tensor(inputs)).sum()
    wrapper.update_params(loss)


def test_finite_steps_are_taken(layer):
    wrapper = wrapper_of(layer)
    step(wrapper, layer, [[3.0, 4.0]])
    assert wrapper.finite
    assert layer.weight.tolist() == [[-2, -3]]
    assert wrapper.message_hub.get_scalar("train/grad_norm").current() == 5


@pytest.mark.parametrize(("kind", "expected"), [("norm", [[0.4, 0.2]]), ("value", [[0.0, 0.0]])])
def test_clipping(layer, kind, expected):
    option = {"type": kind, **({"max_norm": 1.0} if kind == "norm" else {"clip_value": 1.0})}
    wrapper = wrapper_of(layer, clip_grad=option)
    step(wrapper, layer, [[3.0, 4.0]])
    torch.testing.assert_close(layer.weight, torch.tensor(expected), atol=1e-5, rtol=0)
    assert wrapper.message_hub.get_scalar("train/grad_norm").current() == 5


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("clip", [None, {"max_norm": 1.0}, {"type": "value", "clip_value": 1.0}])
def test_others_are_left_out(layer, bad, clip):
    wrapper = wrapper_of(layer, clip_grad=clip)
    step(wrapper, layer, [[bad, 1.0]])
    assert not wrapper.finite
    assert wrapper.broken == {id(layer.weight)}
    assert layer.weight.tolist() == [[1, 1]]
    step(wrapper, layer, [[0.0, 0.5]])
    assert wrapper.finite
    assert not wrapper.broken
    assert layer.weight.tolist() == [[1, 0.5]]


def test_a_loss_without_gradient_counts(layer):
    wrapper = wrapper_of(layer)
    loss = layer(torch.ones(1, 2)).sum() + torch.tensor(float("inf"))
    wrapper.update_params(loss)
    assert not wrapper.finite
    assert layer.weight.tolist() == [[1, 1]]


def test_bfloat16(layer):
    wrapper = wrapper_of(layer, dtype="bfloat16")
    with wrapper.optim_context(layer):
        assert layer(torch.ones(1, 2)).dtype == torch.bfloat16
    step(wrapper, layer, [[3.0, 4.0]])
    assert layer.weight.dtype == torch.float32
    assert layer.weight.tolist() == [[-2, -3]]


def test_wrong_types(layer):
    with pytest.raises(ValueError, match=r"optim_wrapper\.dtype is 'half', expected None, 'bfloat16' or 'float16'"):
        wrapper_of(layer, dtype="half")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="needs a GPU; use 'bfloat16' on a CPU"):
            wrapper_of(layer, dtype="float16")


@pytest.mark.parametrize(
    ("given", "fused"),
    [
        ({}, True),
        ({"fused": False}, False),
        ({"foreach": False}, None),
        ({"foreach": True}, None),
        ({"fused": True}, True),
    ],
)
def test_adam_is_fused_unless_its_config_says_how_it_is_run(layer, given, fused):
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, **given)
    fuse(optimizer)
    assert optimizer.param_groups[0]["fused"] is fused
