# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn.functional as F

from mesm_plugin.models.layers import random_walk


@pytest.mark.parametrize("exact", [True, False])
def test_by_hand(exact: bool) -> None:
    torch.manual_seed(0)
    x, prototypes = torch.randn(2, 6, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    walked = random_walk(x, prototypes, mask, step=0.6, exact=exact)
    for i, length in enumerate((6, 4)):
        items = x[i, :length]
        share = (5 * F.normalize(prototypes[i], dim=-1) @ F.normalize(items, dim=-1).T).softmax(dim=0)
        matrix = torch.eye(length, dtype=torch.float64) - 0.36 * share.T @ (share / share.sum(dim=1, keepdim=True))
        start = 0.6 * share.T @ prototypes[i] + items
        expected = 0.4 * (torch.linalg.inv(matrix) if exact else matrix) @ start
        torch.testing.assert_close(walked[i, :length], expected, rtol=1e-8, atol=1e-8)


def test_the_exact_walk_settles() -> None:
    torch.manual_seed(0)
    x, prototypes, mask = torch.randn(1, 6, 4), torch.randn(1, 3, 4), torch.ones(1, 6, dtype=torch.bool)
    share = (5 * F.normalize(prototypes, dim=-1) @ F.normalize(x, dim=-1).transpose(1, 2)).softmax(dim=1)
    items, places = x, prototypes
    for _ in range(60):
        places = 0.5 * (share / share.sum(dim=2, keepdim=True)) @ items + 0.5 * prototypes
        items = 0.5 * share.transpose(1, 2) @ places + 0.5 * x
    # A step to the prototypes ends there with the other half of the probability.
    settled = random_walk(x, prototypes, mask)
    torch.testing.assert_close(settled, items, rtol=1e-4, atol=1e-4)


def test_mixed_precision() -> None:
    torch.manual_seed(0)
    x, prototypes, mask = torch.randn(1, 6, 4), torch.randn(1, 3, 4), torch.ones(1, 6, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        walked = random_walk(x, prototypes, mask)
    torch.testing.assert_close(walked, random_walk(x, prototypes, mask), rtol=0.05, atol=0.02)
