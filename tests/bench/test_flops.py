# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from bench.flops import count_flops, projected_attention_flops
from mesm_plugin.kernels import feed_forward, masked_attention, projected_attention
from mesm_plugin.kernels.cpu import operators_are_loaded


@pytest.fixture
def _operators() -> None:
    if not operators_are_loaded():
        pytest.skip("the C++ operators cannot be built here; install g++")


def test_linear_layers_count_as_in_pytorch() -> None:
    layer = nn.Linear(3, 5)
    assert count_flops(lambda: layer(torch.ones(7, 3))) == 2 * 7 * 3 * 5


@pytest.mark.usefixtures("_operators")
def test_feed_forward_counts_rows_that_are_no_padding() -> None:
    linear1, linear2 = nn.Linear(4, 64), nn.Linear(64, 4)
    x = torch.randn(3, 6, 4, requires_grad=True)
    mask = torch.arange(6) < torch.tensor([6, 1, 3])[:, None]
    forward = 2 * (4 * 64 + 64 * 4)
    run = lambda mask: feed_forward(x, x, linear1, nn.PReLU(), nn.Dropout(0.1), linear2, mask=mask)  # noqa: E731
    assert count_flops(lambda: run(None)) == 18 * forward
    assert count_flops(lambda: run(mask).sum().backward()) == 3 * 10 * forward


@pytest.mark.usefixtures("_operators")
def test_attention_counts_up_to_the_last_valid_key_and_query() -> None:
    query, key, value = (torch.randn(2, n, 3, 8, requires_grad=True) for n in (5, 7, 7))
    mask = torch.arange(7) < torch.tensor([7, 4])[:, None]
    queries = torch.arange(5) < torch.tensor([2, 5])[:, None]
    each = 2 * 3 * (8 + 8)
    assert count_flops(lambda: masked_attention(query, key, value, mask, 0.1)) == each * (5 * 7 + 5 * 4)
    step = lambda: masked_attention(query, key, value, mask, 0.1, queries).sum().backward()  # noqa: E731
    assert count_flops(step) == 3 * each * (2 * 7 + 5 * 4)


@pytest.mark.usefixtures("_operators")
def test_projected_attention_counts_what_is_projected_and_attended_to() -> None:
    query, key = torch.randn(2, 5, 8, requires_grad=True), torch.randn(3, 7, 8, requires_grad=True)
    weight, bias, out = torch.randn(24, 8), torch.randn(24), nn.Linear(8, 8)
    mask = torch.arange(7) < torch.tensor([2, 4])[:, None]
    queries = torch.arange(5) < torch.tensor([5, 3])[:, None]

    def run() -> torch.Tensor:
        index = torch.tensor([1, 1])
        given = projected_attention(query, None, key, key, mask, weight, bias, out, 2, 0.1, queries, index)
        assert given is not None
        return given

    # Eight queries and the four keys that one of both items needs, of one of three key items.
    forward = 2 * 64 * (8 * 2 + 4 * 2) + 4 * 8 * (8 * 4)
    assert count_flops(run) == forward
    assert count_flops(lambda: run().sum().backward()) == 3 * forward


@pytest.mark.usefixtures("_operators")
def test_projections_that_are_absorbed_into_few_keys_count_as_the_products_that_remain() -> None:
    query, key = torch.randn(2, 50, 8, requires_grad=True), torch.randn(2, 3, 8, requires_grad=True)
    weight, bias, out = torch.randn(24, 8), torch.randn(24), nn.Linear(8, 8)
    mask = torch.ones(2, 3, dtype=torch.bool)

    def run() -> torch.Tensor:
        given = projected_attention(query, None, key, key, mask, weight, bias, out, 2, 0.1)
        assert given is not None
        return given

    # Keys and values, what is absorbed into them, and 100 queries that meet three keys of two heads in 8 + 8 channels.
    forward = 2 * (6 * 4 * 64 + 100 * 3 * 2 * 16)
    assert count_flops(run) == forward
    assert count_flops(lambda: run().sum().backward()) == 3 * forward
    inputs = (query, key, mask, None, None, weight, out.weight, 2)
    assert projected_attention_flops(*inputs) == forward
    # Not in bfloat16: 100 queries are projected, attend and are projected again.
    assert projected_attention_flops(*inputs, bfloat16=True) == 2 * (6 * 2 * 64 + 100 * 2 * 64 + 100 * 3 * 16)
