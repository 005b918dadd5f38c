# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mesm_plugin.kernels import feed_forward
from mesm_plugin.kernels.cpu import suitable as suitable_module

each_activation = pytest.mark.parametrize("activation", [nn.PReLU(init=0.3), nn.ReLU()], ids=["prelu", "relu"])


def layers(dims: int, hidden: int, dtype: torch.dtype = torch.float64) -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    return nn.Linear(dims, hidden, dtype=dtype), nn.Linear(hidden, dims, dtype=dtype)


def gradients(out: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return list(torch.autograd.grad((out * weights).sum(), inputs))


@each_activation
@pytest.mark.parametrize("rows", [1, 63, 700])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("normed", [False, True])
def test_equals_pytorch(activation: nn.Module, rows: int, dtype: torch.dtype, normed: bool) -> None:
    linear1, linear2 = layers(8, 600, dtype)
    activation = activation.to(dtype)
    norm = nn.LayerNorm(8, dtype=dtype) if normed else None
    x, residual = (torch.randn(rows, 8, dtype=dtype, requires_grad=True) for _ in range(2))
    inputs = [x, residual, *linear1.parameters(), *linear2.parameters(), *activation.parameters()]
    if norm is not None:
        nn.init.normal_(norm.weight)
        inputs += list(norm.parameters())
    ours = feed_forward(x, residual, linear1, activation, nn.Dropout(0.0), linear2, norm)
    truth = residual + linear2(activation(linear1(x)))
    if norm is not None:
        truth = norm(truth)
    torch.testing.assert_close(ours, truth)
    for a, b in zip(gradients(ours, inputs), gradients(truth, inputs), strict=True):
        torch.testing.assert_close(a, b, atol=5e-4 if dtype == torch.float32 else 1e-10, rtol=1e-5)


@each_activation
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("normed", [False, True])
def test_gradients_with_dropout(activation: nn.Module, masked: bool, normed: bool) -> None:
    linear1, linear2 = layers(3, 64)
    activation = activation.double()
    x, residual = (torch.randn(7, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    mask = torch.tensor([True, False, True, True, False, True, False]) if masked else None
    norm = list(nn.LayerNorm(3, dtype=torch.float64).parameters()) if normed else []
    slope = list(activation.parameters())

    def run(x: Tensor, residual: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, *others: Tensor) -> Tensor:
        one = others[0] if slope else None
        gamma, beta = others[-2:] if normed else (None, None)
        options = (1e-5, 7, 0.3, True)
        return torch.ops.mesm_plugin.feed_forward(x, residual, mask, w1, b1, one, w2, b2, gamma, beta, *options)[0]

    inputs = (x, residual, linear1.weight, linear1.bias, linear2.weight, linear2.bias, *slope, *norm)
    assert torch.autograd.gradcheck(run, inputs, nondet_tol=0.0)


def test_padding_is_left_out() -> None:
    linear1, linear2 = layers(4, 64, torch.float32)
    activation, norm = nn.PReLU(), nn.LayerNorm(4)
    x = torch.randn(5, 6, 4)
    mask = torch.arange(6) < torch.tensor([6, 1, 3, 0, 5])[:, None]
    x[~mask] = torch.nan
    x.requires_grad_()
    out = feed_forward(x, x, linear1, activation, nn.Dropout(0.0), linear2, norm, mask)
    truth = norm(x + linear2(activation(linear1(x))))
    torch.testing.assert_close(out[mask], truth[mask])
    assert (out[~mask] == 0).all()
    out.square().sum().backward()
    assert x.grad is not None
    assert (x.grad[~mask] == 0).all()
    parameters = (*linear1.parameters(), *linear2.parameters(), *norm.parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)


def test_one_row() -> None:
    linear1, linear2 = layers(4, 8)
    x = torch.randn(4, dtype=torch.float64)
    ours = feed_forward(x, x, linear1, nn.ReLU(), nn.Dropout(0.0), linear2)
    torch.testing.assert_close(ours, x + linear2(linear1(x).relu()))


def test_masks_and_slopes_that_do_not_fit_are_refused() -> None:
    linear1, linear2 = layers(4, 8)
    x = torch.randn(3, 4, dtype=torch.float64)
    run = lambda mask: feed_forward(x, x, linear1, nn.ReLU(), nn.Dropout(0.0), linear2, mask=mask)  # noqa: E731
    with pytest.raises(ValueError, match=r"mask must be bool of shape \[3\] on the CPU, got Float of shape \[3\]"):
        run(torch.ones(3))
    with pytest.raises(ValueError, match=r"mask must be bool of shape \[3\] on the CPU, got Bool of shape \[4\]"):
        run(torch.ones(4).bool())
    parameters = (linear1.weight, linear1.bias, torch.empty(0).double(), linear2.weight, linear2.bias)
    with pytest.raises(ValueError, match=r"slope must be one number, got \[0\]"):
        torch.ops.mesm_plugin.feed_forward(x, x, None, *parameters, None, None, 0.0, None, 0.0, False)


@pytest.mark.parametrize("why", ["no bias", "no weights of the norm"])
def test_layers_without_all_parameters_go_to_pytorch(why: str) -> None:
    linear1 = nn.Linear(4, 8, bias=why != "no bias")
    linear2, norm = nn.Linear(8, 4), nn.LayerNorm(4, elementwise_affine=why != "no weights of the norm")
    x = torch.randn(3, 4)
    out = feed_forward(x, x, linear1, nn.PReLU(), nn.Dropout(0.0), linear2, norm)
    assert torch.equal(out, norm(x + linear2(F.prelu(linear1(x), torch.tensor([0.25])))))


def test_without_any_valid_row() -> None:
    linear1, linear2 = layers(4, 64, torch.float32)
    x = torch.randn(5, 4, requires_grad=True)
    out = feed_forward(x, x, linear1, nn.ReLU(), nn.Dropout(0.1), linear2, nn.LayerNorm(4), torch.zeros(5).bool())
    out.sum().backward()
    assert (out == 0).all()
    assert x.grad is not None
    assert (x.grad == 0).all()
    assert linear1.weight.grad is not None
    assert (linear1.weight.grad == 0).all()


def test_dropout_follows_the_seed_of_pytorch_and_keeps_the_mean() -> None:
    linear1, linear2 = layers(1, 1024, torch.float32)
    for parameter in (linear1.weight, linear2.bias):
        nn.init.zeros_(parameter)
    for parameter in (linear1.bias, linear2.weight):
        nn.init.ones_(parameter)
    x = torch.zeros(20000, 1)
    torch.manual_seed(1)
    first = feed_forward(x, x, linear1, nn.ReLU(), nn.Dropout(0.2), linear2)
    torch.manual_seed(1)
    assert torch.equal(first, feed_forward(x, x, linear1, nn.ReLU(), nn.Dropout(0.2), linear2))
    assert not torch.equal(first, feed_forward(x, x, linear1, nn.ReLU(), nn.Dropout(0.2), linear2))
    # A fifth of the rows is dropped as a whole. Each other row is 1.25 times a sum of 1024 numbers, 1.25 with
    # probability 0.8: its mean is 1280, its deviation 1.25 * 1.25 * sqrt(1024 * 0.16) = 20.
    kept = first[first != 0].detach()
    assert abs(kept.numel() / 20000 - 0.8) < 4 * (0.16 / 20000) ** 0.5
    assert abs(float(kept.mean()) - 1280) < 4 * 20 / 16000**0.5
    assert abs(float(kept.std()) - 20) < 4 * 20 / 32000**0.5


def test_training_without_gradients_gives_the_same_numbers() -> None:
    linear1, linear2 = layers(4, 512, torch.float32)
    norm = nn.LayerNorm(4)
    x = torch.randn(1500, 4)
    torch.manual_seed(2)
    with torch.no_grad():
        free = feed_forward(x, x, linear1, nn.PReLU(), nn.Dropout(0.1), linear2, norm)
    torch.manual_seed(2)
    torch.testing.assert_close(free, feed_forward(x, x, linear1, nn.PReLU(), nn.Dropout(0.1), linear2, norm))


def test_any_number_of_threads_drops_the_same_numbers() -> None:
    linear1, linear2 = layers(8, 100, torch.float64)
    x = torch.randn(3000, 8, dtype=torch.float64)
    outputs = []
    threads = torch.get_num_threads()
    for number in (1, 3):
        torch.set_num_threads(number)
        torch.manual_seed(3)
        outputs.append(feed_forward(x, x, linear1, nn.ReLU(), nn.Dropout(0.5), linear2))
    torch.set_num_threads(threads)
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("why", ["no operators", "half", "float16", "no bfloat16", "slopes", "meta", "all dropped"])
def test_falls_back_to_pytorch(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    linear1, linear2 = layers(4, 8, torch.float32)
    activation = nn.PReLU(8) if why == "slopes" else nn.PReLU()
    x = torch.randn(3, 4)
    monkeypatch.setattr(torch.ops.mesm_plugin, "feed_forward", None)
    if why == "no operators":
        monkeypatch.setattr(suitable_module, "operators_are_loaded", lambda: False)
    monkeypatch.setattr("mesm_plugin.kernels.cpu.suitable.has_bfloat16", lambda: why != "no bfloat16")
    if why in ("half", "meta"):
        target = {"dtype": torch.bfloat16} if why == "half" else {"device": "meta"}
        x, linear1, linear2, activation = (part.to(**target) for part in (x, linear1, linear2, activation))
    dropout = nn.Dropout(1.0 if why == "all dropped" else 0.0)
    asked = {"float16": torch.float16, "no bfloat16": torch.bfloat16}
    with torch.autocast("cpu", asked.get(why), enabled=why in asked):
        out = feed_forward(x, x, linear1, activation, dropout, linear2)
        truth = x + dropout(linear2(activation(linear1(x))))
    assert out.dtype == truth.dtype
    assert out.device == truth.device
    if why != "meta":
        assert torch.equal(out, truth)
