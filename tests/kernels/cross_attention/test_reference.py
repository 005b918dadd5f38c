# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mesm_plugin.kernels import ProblemTable
from mesm_plugin.kernels.cross_attention import reference


def random_inputs(items: int, queries: int, keys: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(items + queries + keys)
    sizes = (queries, keys, keys)
    return [torch.randn(items, n, 2, 16, generator=generator, dtype=dtype).requires_grad_() for n in sizes]


@pytest.mark.parametrize("scale", [0.25, 1.5])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (7, 5), (63, 33), (194, 17)])
def test_equals_torch(queries: int, keys: int, scale: float) -> None:
    query, key, value = random_inputs(3, queries, keys)
    mask = torch.rand(3, keys, generator=torch.Generator().manual_seed(0)) < 0.7
    mask[:, 0] = True
    ours = reference.attend(query, key, value, mask, scale)
    heads_first = [x.transpose(1, 2) for x in (query, key, value)]
    theirs = F.scaled_dot_product_attention(*heads_first, attn_mask=mask[:, None, None], scale=scale).transpose(1, 2)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(ours)
    gradients = torch.autograd.grad(ours, (query, key, value), upstream)
    expected = torch.autograd.grad(theirs, (query, key, value), upstream)
    for name, ours, theirs in zip(("query", "key", "value"), gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, msg=lambda m, name=name: f"gradient of {name}: {m}")


@pytest.mark.parametrize("dropout_p", [0.0, 0.1])
def test_gradcheck(dropout_p: float) -> None:
    inputs = random_inputs(2, 3, 4)
    mask = torch.tensor([[True, True, False, True], [False, False, False, False]])
    seed = torch.tensor(3)
    assert torch.autograd.gradcheck(lambda *x: reference.attend(*x, mask, 0.25, dropout_p, seed), inputs)


@pytest.mark.parametrize("dropout_p", [0.0, 0.1])
def test_gradcheck_of_the_packed_form(dropout_p: float) -> None:
    query, key, value = (x[0].detach().requires_grad_() for x in random_inputs(1, 5, 6))
    problems = ProblemTable([(0, 2, 1, 3), (2, 3, 4, 2), (5, 0, 0, 1)])
    mask = torch.tensor([True, True, False, True, True, True])

    def attend(*x: Tensor) -> Tensor:
        return reference.attend_packed(*x, mask, problems, 0.25, dropout_p, torch.tensor(3))

    assert torch.autograd.gradcheck(attend, (query, key, value))


def test_fully_masked_item_gives_zeros_and_zero_gradients() -> None:
    query, key, value = random_inputs(2, 3, 4)
    mask = torch.tensor([[True, False, True, True], [False] * 4])
    out = reference.attend(query, key, value, mask, 0.25)
    assert (out[1] == 0).all()
    assert (out[0] != 0).all()
    for name, gradient in zip("qkv", torch.autograd.grad(out.sum(), (query, key, value)), strict=True):
        assert gradient.isfinite().all(), name
        assert (gradient[1] == 0).all(), name
        # The sum of the outputs does not depend on a key that is masked.
        assert name == "q" or (gradient[0, 1] == 0).all(), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_large_logits_of_a_fully_masked_item_stay_finite(dtype: torch.dtype) -> None:
    query, key, value = (torch.full((1, 3, 2, 16), x, dtype=dtype, requires_grad=True) for x in (20.0, -20.0, 1.0))
    out = reference.attend(query, key, value, torch.zeros(1, 3, dtype=torch.bool), 0.25)
    assert (out == 0).all()
    for gradient in torch.autograd.grad(out.sum(), (query, key, value)):
        assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_large_logits_of_masked_keys_do_not_count(dtype: torch.dtype) -> None:
    # Logits of -20000 for the first key and 20000 for the second, which is masked; the second item has no valid key.
    query, key, value = (torch.ones(2, n, 1, 16, dtype=dtype) for n in (3, 2, 2))
    query, key[:, 0], key[:, 1], value[:, 1] = 50 * query, -100, 100, -1
    leaves = [x.requires_grad_() for x in (query, key, value)]
    out = reference.attend(*leaves, torch.tensor([[True, False], [False, False]]), 0.25)
    assert (out[0] == 1).all()
    assert (out[1] == 0).all()
    for name, gradient in zip("qkv", torch.autograd.grad(out.sum(), leaves), strict=True):
        expected = torch.zeros_like(gradient)
        if name == "v":
            expected[0, 0] = 3
        assert torch.equal(gradient, expected), name


def test_dropout_without_a_seed_keeps_the_mean() -> None:
    torch.manual_seed(0)
    ones = torch.ones(1, 1, 1, 16), torch.ones(1, 4096, 1, 16), torch.ones(1, 4096, 1, 16)
    out = reference.attend(*ones, torch.ones(1, 4096, dtype=torch.bool), 0.25, dropout_p=0.25)
    # The mean of 4096 kept-or-dropped weights has standard deviation sqrt(0.25 / 0.75 / 4096) = 0.009.
    assert out.mean().item() == pytest.approx(1.0, abs=0.036)
    assert out.mean().item() != 1.0


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_packed_form_equals_the_padded_one(dropout_p: float) -> None:
    lengths = [(4, 3), (0, 2), (5, 0), (2, 5), (1, 1)]
    query, key, value = random_inputs(5, 5, 5)
    mask = torch.rand(5, 5, generator=torch.Generator().manual_seed(0)) < 0.8
    queries, keys = (torch.arange(5) < torch.tensor(n)[:, None] for n in zip(*lengths, strict=True))
    seed = torch.tensor(11)
    padded = reference.attend(query, key, value, mask & keys, 0.25, dropout_p, seed, first_problem=2)
    problems = ProblemTable.from_lengths(*zip(*lengths, strict=True))
    packed = reference.attend_packed(
        query[queries], key[keys], value[keys], mask[keys], problems, 0.25, dropout_p, seed, first_problem=2
    )
    torch.testing.assert_close(packed, padded[queries])


def test_rows_of_no_problem_are_zero() -> None:
    query, key, value = (x[0] for x in random_inputs(1, 7, 3))
    problems = ProblemTable([(1, 2, 0, 1), (4, 2, 1, 2)])
    out = reference.attend_packed(query, key, value, torch.ones(3, dtype=torch.bool), problems, 0.25)
    assert (out.abs().amax((1, 2)) != 0).tolist() == [False, True, True, False, True, True, False]
    # Attention to one key returns its value.
    assert torch.equal(out[1:3], value[:1].expand(2, -1, -1))


@pytest.mark.parametrize("problems", [[], [(2, 0, 1, 0)], [(0, 2, 0, 0), (2, 0, 0, 3)], [(1, 2, 3, 0)]])
def test_packed_problems_without_queries_or_keys(problems: list[tuple[int, int, int, int]]) -> None:
    leaves = [x[0].detach().requires_grad_() for x in random_inputs(1, 4, 3)]
    out = reference.attend_packed(*leaves, torch.ones(3, dtype=torch.bool), ProblemTable(problems), 0.25)
    assert torch.equal(out, torch.zeros_like(out))
    for gradient in torch.autograd.grad(out.sum(), leaves):
        assert (gradient == 0).all()


def test_rows_of_no_problem_are_not_read() -> None:
    query, key, value = (x[0].detach() for x in random_inputs(1, 5, 4))
    mask, problems = torch.ones(4, dtype=torch.bool), ProblemTable([(1, 2, 1, 1), (3, 1, 2, 2)])
    expected = reference.attend_packed(query, key, value, mask, problems, 0.25)
    query[[0, 4]], key[0], value[0] = torch.nan, torch.nan, torch.nan
    leaves = [x.requires_grad_() for x in (query, key, value)]
    out = reference.attend_packed(*leaves, mask, problems, 0.25)
    assert torch.equal(out, expected)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(out.sum(), leaves))


@pytest.mark.parametrize("keys", [0, 3])
def test_nothing_to_attend(keys: int) -> None:
    out = reference.attend(*random_inputs(2, 0, keys), torch.ones(2, keys, dtype=torch.bool), 0.25)
    assert out.shape == (2, 0, 2, 16)
    out = reference.attend(*random_inputs(2, 3, 0), torch.ones(2, 0, dtype=torch.bool), 0.25)
    assert torch.equal(out, torch.zeros(2, 3, 2, 16, dtype=torch.float64))
