# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from mesm_plugin.kernels import Dropout, dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_rate_scale_and_gradient(p: float) -> None:
    torch.manual_seed(0)
    x = torch.full((1000, 203), 2.0, requires_grad=True)
    out = dropout(x, p)
    kept = out != 0
    # The share of 203,000 independent draws has a standard deviation of at most 0.0012.
    assert kept.float().mean().item() == pytest.approx(1 - p, abs=0.005)
    torch.testing.assert_close(out[kept], torch.full_like(out[kept], 2 / (1 - p)), rtol=2e-4, atol=0)
    (gradient,) = torch.autograd.grad(out, x, torch.full_like(x, 3.0))
    torch.testing.assert_close(gradient, kept * (3 / (1 - p)), rtol=2e-4, atol=0)


def test_neighbours_are_independent() -> None:
    # Four neighbours come from one draw.
    torch.manual_seed(0)
    kept = (dropout(torch.ones(50_000, 4), 0.5) != 0).double()
    correlation = torch.corrcoef(kept.T) - torch.eye(4)
    assert correlation.abs().max().item() < 0.02
    assert (kept.mean(dim=0) - 0.5).abs().max().item() < 0.01


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0, 4)])
def test_any_shape_and_dtype(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    out = dropout(torch.ones(shape, dtype=dtype), 0.25)
    assert out.shape == shape
    assert out.dtype == dtype


def test_same_seed_same_mask_and_off_in_evaluation() -> None:
    x = torch.randn(64, 3)
    module = Dropout(0.3)
    torch.manual_seed(5)
    first = module(x)
    torch.manual_seed(5)
    assert torch.equal(module(x), first)
    assert module.eval()(x) is x
    assert dropout(x, 0.0) is x


def test_inputs_of_any_strides() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 8).T
    out = dropout(x, 0.5)
    torch.testing.assert_close(out[out != 0], 2 * x[out != 0])


def test_bad_probability_is_named() -> None:
    with pytest.raises(ValueError, match="p must be at least 0 and below 1, got 1.0"):
        dropout(torch.ones(2), 1.0)
    with pytest.raises(ValueError, match="p must be at least 0 and below 1, got -0.1"):
        Dropout(-0.1)
    assert dropout(torch.ones(3), 0.999999).isfinite().all()
