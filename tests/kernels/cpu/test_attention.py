# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mesm_plugin.kernels import cross_attention as cross_attention_module
from mesm_plugin.kernels import masked_attention
from mesm_plugin.kernels.cross_attention.attention import cross_attention
from mesm_plugin.kernels.cross_attention.reference import attend
from tests.kernels.conftest import needs_bfloat16

SIZES = [(4, 5, 7), (1, 1, 1), (3, 65, 129), (2, 300, 900), (40, 37, 16)]


def make(
    items: int, queries: int, keys: int, heads: int = 2, dims: int = 8, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    query, key, value = (
        torch.randn(items, length, heads, size, dtype=dtype, requires_grad=True)
        for length, size in ((queries, dims), (keys, dims), (keys, dims + 1))
    )
    mask = torch.rand(items, keys) < 0.7
    mask[0] = True
    if items > 2:
        mask[2] = False
    return query, key, value, mask


def operator(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, p: float = 0.0, query_mask: Tensor | None = None
) -> Tensor:
    return torch.ops.mesm_plugin.attention(query, key, value, mask, query_mask, 5, p, 0.4)[0]


# The channels of a head are taken by vectors of several sizes, and by single ones.
@pytest.mark.parametrize(
    ("items", "queries", "keys", "dims"), [(*size, 8) for size in SIZES] + [(3, 13, 41, dims) for dims in (1, 23, 60)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_reference(items: int, queries: int, keys: int, dims: int, dtype: torch.dtype) -> None:
    *inputs, mask = make(items, queries, keys, dims=dims, dtype=dtype)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    ours, truth = operator(*inputs, mask), attend(*exact, mask, 0.4)
    tolerance = 2e-6 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(ours.double(), truth, atol=tolerance, rtol=tolerance)
    above = torch.linspace(-1, 1, ours.numel(), dtype=torch.float64).view_as(truth)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, above.to(dtype)), torch.autograd.grad(truth, exact, above), strict=True
    ):
        torch.testing.assert_close(a.double(), b, atol=10 * tolerance, rtol=10 * tolerance)


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_gradients(p: float) -> None:
    query, key, value, mask = make(4, 5, 7, dims=3)
    assert torch.autograd.gradcheck(lambda *x: operator(*x, mask, p), (query, key, value), nondet_tol=0.0)


def test_queries_behind_the_last_valid_one_are_left_out() -> None:
    query, key, value, mask = make(5, 6, 6)
    query_mask = torch.arange(6) < torch.tensor([6, 2, 3, 0, 1])[:, None]
    out = operator(query, key, value, mask, query_mask=query_mask)
    truth = attend(query, key, value, mask, 0.4)
    torch.testing.assert_close(out[query_mask], truth[query_mask])
    (gradient,) = torch.autograd.grad(out[query_mask].sum(), query)
    (expected,) = torch.autograd.grad(truth[query_mask].sum(), query)
    torch.testing.assert_close(gradient, expected)
    assert out.isfinite().all()


@pytest.mark.parametrize(("items", "queries", "keys"), [(0, 2, 3), (2, 0, 3), (2, 3, 0)])
def test_what_is_empty(items: int, queries: int, keys: int) -> None:
    query, key, value = (torch.randn(items, n, 2, 4, requires_grad=True) for n in (queries, keys, keys))
    out = masked_attention(query, key, value, torch.ones(items, keys, dtype=torch.bool))
    out.sum().backward()
    assert torch.equal(out, torch.zeros(items, queries, 2, 4))
    for x in (query, key, value):
        assert x.grad is not None
        assert torch.equal(x.grad, torch.zeros_like(x))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("query", lambda x: x[0], r"query must have 4 dimensions, .* got \[3, 2, 8\]"),
        ("key", lambda x: x[:1], r"key must match query but for the length, got \[1, 4, 2, 8\] and \[2, 3, 2, 8\]"),
        ("key", lambda x: x[:, :, :1], r"key must match query .*, got \[2, 4, 1, 8\]"),
        ("key", lambda x: x[..., :7], r"key must match query .*, got \[2, 4, 2, 7\]"),
        ("value", lambda x: x[:1], r"value must match key but for the channels, got \[1, 4, 2, 9\] and \[2, 4, 2, 8\]"),
        ("value", lambda x: x[:, :3], r"value must match key .*, got \[2, 3, 2, 9\]"),
        ("value", lambda x: x[:, :, :1], r"value must match key .*, got \[2, 4, 1, 9\]"),
        ("mask", lambda x: x[:1], r"key_mask must be bool of shape \[2, 4\] on the CPU, got Bool of shape \[1, 4\]"),
        ("mask", lambda x: x[:, :3], r"key_mask must be .*, got Bool of shape \[2, 3\]"),
        ("mask", lambda x: x.float(), r"key_mask must be .*, got Float of shape \[2, 4\]"),
        ("query_mask", lambda x: x[:, :2], r"query_mask must be bool of shape \[2, 3\] .*, got Bool of shape \[2, 2\]"),
        ("query_mask", lambda x: x.long(), r"query_mask must be .*, got Long of shape \[2, 3\]"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, change: Callable[[Tensor], Tensor], message: str) -> None:
    given = dict(zip(("query", "key", "value", "mask"), make(2, 3, 4), strict=True))
    given["query_mask"] = torch.ones(2, 3, dtype=torch.bool)
    given[name] = change(given[name])
    with pytest.raises(ValueError, match=message):
        masked_attention(**given)


@pytest.mark.parametrize("largest", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_products_are_as_exact_as_in_pytorch(largest: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    query, key, value, above = (torch.randn(3, 65, 2, 16, dtype=dtype) for _ in range(4))
    mask = torch.rand(3, 65) < 0.8
    mask[:, 0] = True
    factor = (largest / (query.transpose(1, 2) @ key.permute(0, 2, 3, 1) / 4).abs().max()).sqrt()
    query, key = query * factor, key * factor

    def results(run: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        inputs = [x.to(dtype).detach().requires_grad_() for x in (query, key, value)]
        out = run(*inputs)
        return [out.detach(), *torch.autograd.grad(out, inputs, above.to(dtype))]

    def fused(*inputs: Tensor) -> Tensor:
        heads = (x.transpose(1, 2) for x in inputs)
        return F.scaled_dot_product_attention(*heads, mask[:, None, None]).transpose(1, 2)

    truth = results(lambda *x: attend(*x, mask, 0.25), torch.float64)
    ours, theirs = results(lambda *x: masked_attention(*x, mask), dtype), results(fused, dtype)
    # A gradient is a sum of terms that cancel where one weight is almost 1: its rounding errors are those of the terms.
    unit = torch.finfo(dtype).eps * largest
    terms = (1, float(key.abs().max()), float(query.abs().max()), 1)
    for a, b, exact, size in zip(ours, theirs, truth, terms, strict=True):
        error, bound = ((x.double() - exact).abs().max() for x in (a, b))
        assert error <= 4 * bound + 4 * unit * size, (error, bound)


def test_dropout_has_the_rate_and_the_scale() -> None:
    # The value of key i is the i-th unit vector, so that weights come out; they are 1 / 64 each.
    query, key = torch.zeros(8, 50, 2, 4), torch.zeros(8, 64, 2, 4)
    value = torch.eye(64)[None, :, None].expand(8, 64, 2, 64)
    weights = operator(query, key, value, torch.ones(8, 64, dtype=torch.bool), 0.25) * 64
    kept = weights > 0
    torch.testing.assert_close(weights[kept], torch.full_like(weights[kept], 1 / 0.75))
    count = weights.numel()
    assert abs(float(kept.double().mean()) - 0.75) < 4 * (0.75 * 0.25 / count) ** 0.5
    # No pattern repeats from key to key, query to query, head to head or item to item.
    centred = kept.double() - 0.75
    for dim in range(4):
        product = (centred * centred.roll(1, dim)).mean() / (0.75 * 0.25)
        assert abs(float(product)) < 4 / count**0.5


def test_broken_numbers_stay_visible() -> None:
    query, key, value, mask = make(2, 3, 4, dtype=torch.float32)
    with torch.no_grad():
        query[0, 1] = torch.nan
    out = operator(query, key, value, mask)
    assert out[0, 1].isnan().all()
    assert out[0, 0].isfinite().all()
    assert out[1].isfinite().all()


def test_one_seed_is_drawn_from_pytorch() -> None:
    query, key, value, mask = make(3, 4, 5, dtype=torch.float32)
    torch.manual_seed(3)
    first = masked_attention(query, key, value, mask, 0.5)
    second = masked_attention(query, key, value, mask, 0.5)
    torch.manual_seed(3)
    assert torch.equal(first, masked_attention(query, key, value, mask, 0.5))
    assert not torch.equal(first, second)


def test_who_asks_for_the_reference_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value, mask = make(2, 3, 4, dtype=torch.float32)
    value = value[..., :8]
    ours = cross_attention(query, key, value, mask)
    assert ours.grad_fn is not None
    assert "Attention" in ours.grad_fn.name()
    monkeypatch.setattr(cross_attention_module.attention, "attend_in_cpp", None)
    torch.testing.assert_close(ours, cross_attention(query, key, value, mask, backend="reference"))
    seeded = [cross_attention(query, key, value, mask, dropout_p=0.5, seed=1) for _ in range(2)]
    assert torch.equal(*seeded)


@needs_bfloat16
def test_autocast_gives_the_dtype_of_the_query() -> None:
    query, key, value, mask = make(4, 5, 7, dtype=torch.float32)
    truth = masked_attention(query.bfloat16().float(), key, value, mask)
    rounded = query.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        ours = masked_attention(rounded, key, value, mask)
        assert masked_attention(query, key.bfloat16(), value, mask).dtype == torch.float32
    assert ours.dtype == torch.bfloat16
    assert torch.equal(ours, truth.bfloat16())
    above = torch.randn(ours.shape).bfloat16()
    gradients = torch.autograd.grad(ours, (rounded, key, value), above)
    assert [gradient.dtype for gradient in gradients] == [torch.bfloat16, torch.float32, torch.float32]
    for a, b in zip(gradients, torch.autograd.grad(truth, (query, key, value), above.float()), strict=True):
        assert torch.equal(a.float(), b)


@pytest.mark.parametrize(("dtype", "supported"), [(torch.float16, True), (torch.bfloat16, False)])
def test_other_autocast_goes_to_pytorch(dtype: torch.dtype, supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mesm_plugin, "attention", None)
    monkeypatch.setattr("mesm_plugin.kernels.cpu.suitable.has_bfloat16", lambda: supported)
    query, key, value, mask = make(2, 5, 7, dtype=torch.float32)
    with torch.autocast("cpu", dtype):
        out = masked_attention(query, key, value[..., :8], mask)
    truth = attend(query, key, value[..., :8], mask, 8**-0.5)
    torch.testing.assert_close(out.float(), truth, atol=0.02, rtol=0.02)
