# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import Tensor, nn

from mesm_plugin.kernels import add_norm
from tests.kernels.conftest import needs_bfloat16


def inputs_of(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, nn.LayerNorm]:
    torch.manual_seed(0)
    norm = nn.LayerNorm(shape[-1], dtype=dtype)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x, update = (torch.randn(*shape, dtype=dtype, requires_grad=True) for _ in range(2))
    return x, update, norm


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 70, 96), (4000, 256)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_pytorch(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, update, norm = inputs_of(*shape, dtype=dtype)
    truth = x + update
    ours = add_norm(x, update, nn.Dropout(0.3).eval(), norm)
    torch.testing.assert_close(ours, (truth, norm(truth)))
    weights = torch.linspace(-1, 1, x.numel(), dtype=dtype).view_as(x)
    for use in ((1, 1), (0, 1), (1, 0)):
        ins = [x, update, *norm.parameters()] if use[1] else [x, update]
        gradients = (
            torch.autograd.grad((use[0] * total + use[1] * normed * weights).sum(), ins, retain_graph=True)
            for total, normed in (ours, (truth, norm(truth)))
        )
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b, atol=1e-3 if dtype == torch.float32 else 1e-10, rtol=1e-4)


def test_without_channels_and_without_rows() -> None:
    for shape in ((3, 0), (0, 3)):
        x, update, norm = inputs_of(*shape)
        total, normed = add_norm(x, update, nn.Dropout(0.0), norm)
        (total + normed).sum().backward()
        assert total.shape == normed.shape == shape
        for parameter in norm.parameters():
            assert parameter.grad is not None
            assert torch.equal(parameter.grad, torch.zeros(shape[1], dtype=torch.float64))


def test_gradients_that_lie_together_do_not_mix() -> None:
    x, update, norm = inputs_of(4, 3)
    total, _ = add_norm(x, update, nn.Dropout(0.0), norm)
    x.register_hook(lambda gradient: gradient * 2)
    for _ in range(2):
        (total.sum() + 3 * update.sum()).backward(retain_graph=True)
    assert x.grad is not None
    assert update.grad is not None
    assert (x.grad == 4).all()
    assert (update.grad == 8).all()


def test_gradients_with_dropout() -> None:
    x, update, norm = inputs_of(3, 5)
    run = lambda x, update, w, b: torch.ops.mesm_plugin.add_norm(x, update, w, b, 1e-5, 3, 0.4)[:2]  # noqa: E731
    assert torch.autograd.gradcheck(run, (x, update, norm.weight, norm.bias), nondet_tol=0.0)


def test_drops_the_update_alone() -> None:
    x, update, norm = torch.full((400, 64), 10.0), torch.ones(400, 64), nn.LayerNorm(64)
    torch.manual_seed(0)
    total, normed = add_norm(x, update, nn.Dropout(0.25), norm)
    torch.testing.assert_close(normed, norm(total))
    dropped = total == 10
    torch.testing.assert_close(total[~dropped], torch.full_like(total[~dropped], 10 + 4 / 3))
    assert abs(float(dropped.float().mean()) - 0.25) < 4 * (0.25 * 0.75 / total.numel()) ** 0.5
    torch.manual_seed(0)
    assert torch.equal(total, add_norm(x, update, nn.Dropout(0.25), norm)[0])


@pytest.mark.parametrize("why", ["half", "float16", "no bfloat16"])
def test_half_precision_goes_to_pytorch(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mesm_plugin, "add_norm", None)
    monkeypatch.setattr("mesm_plugin.kernels.cpu.suitable.has_bfloat16", lambda: why != "no bfloat16")
    asked = {"float16": torch.float16, "no bfloat16": torch.bfloat16}
    with torch.autocast("cpu", asked.get(why), enabled=why in asked):
        x, update, norm = inputs_of(2, 4, dtype=torch.bfloat16 if why == "half" else torch.float32)
        assert torch.equal(add_norm(x, update, nn.Dropout(0.0), norm)[1], norm(x + update))


@needs_bfloat16
def test_autocast_makes_float32() -> None:
    x, update, norm = inputs_of(5, 70, dtype=torch.float32)
    x = x.detach().bfloat16().requires_grad_()
    inputs = (x, update, *norm.parameters())
    truth = add_norm(x.float(), update, nn.Dropout(0.0), norm)
    with torch.autocast("cpu", torch.bfloat16):
        ours = add_norm(x, update, nn.Dropout(0.0), norm)
    for a, b in zip(ours, truth, strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)
    gradients = [torch.autograd.grad(sum(x.square().sum() for x in out), inputs) for out in (ours, truth)]
    assert [x.dtype for x in gradients[0]] == [torch.bfloat16, *[torch.float32] * 3]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
