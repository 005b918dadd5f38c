# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import itertools

import pytest
import torch
from torch import nn

from mesm_plugin.kernels import perceptron


def layers_of(*channels: int, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [(nn.Linear(a, b, dtype=dtype), nn.ReLU()) for a, b in itertools.pairwise(channels)]
    return nn.Sequential(*itertools.chain(*layers))[:-1]


@pytest.mark.parametrize("channels", [(5, 3), (5, 70, 2), (4, 8, 8, 1), (2, 3, 4, 5, 6)])
@pytest.mark.parametrize("rows", [(1,), (3, 700), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_pytorch(channels: tuple[int, ...], rows: tuple[int, ...], dtype: torch.dtype) -> None:
    layers = layers_of(*channels, dtype=dtype)
    x = torch.randn(*rows, channels[0], dtype=dtype, requires_grad=True)
    ours, truth = perceptron(x, list(layers)), layers(x)
    torch.testing.assert_close(ours, truth)
    inputs = [x, *layers.parameters()]
    weights = torch.randn_like(truth)
    gradients = (torch.autograd.grad((out * weights).sum(), inputs) for out in (ours, truth))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4 if dtype == torch.float32 else 1e-10, rtol=1e-4)


def test_input_without_gradient() -> None:
    layers = layers_of(4, 6, 2)
    x = torch.randn(5, 4, dtype=torch.float64)
    perceptron(x, list(layers)).sum().backward()
    hidden = layers[0](x).relu()
    torch.testing.assert_close(layers[2].weight.grad, hidden.sum(dim=0).expand(2, -1))


def test_what_is_not_a_number_stays_visible() -> None:
    layers = layers_of(2, 3, 1, dtype=torch.float32)
    out = perceptron(torch.tensor([[torch.nan, 1.0], [1.0, 1.0]]), list(layers))
    assert out.isnan().tolist() == [[True], [False]]


def test_layers_without_bias_and_other_dtypes_go_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mesm_plugin, "perceptron", None)
    layer = nn.Linear(3, 2, bias=False)
    x = torch.randn(4, 3)
    assert torch.equal(perceptron(x, [layer]), layer(x))
    half = nn.Linear(3, 2, dtype=torch.bfloat16)
    assert torch.equal(perceptron(x.bfloat16(), [half]), half(x.bfloat16()))


@pytest.mark.parametrize(("dtype", "supported"), [(torch.float16, True), (torch.bfloat16, False)])
def test_other_products_of_autocast_are_those_of_pytorch(
    dtype: torch.dtype, supported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.ops.mesm_plugin, "perceptron", None)
    monkeypatch.setattr("mesm_plugin.kernels.cpu.suitable.has_bfloat16", lambda: supported)
    layers = layers_of(3, 4, 2, dtype=torch.float32)
    x = torch.randn(5, 3)
    with torch.autocast("cpu", dtype):
        out = perceptron(x, list(layers))
        assert out.dtype == dtype
        assert torch.equal(out, layers(x))
