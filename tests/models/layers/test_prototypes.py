# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import torch
import torch.nn.functional as F

from mesm_plugin.models.layers import Prototypes


def build(num_iterations: int = 3, **options: bool) -> Prototypes:
    torch.manual_seed(0)
    return Prototypes(dims=4, num_prototypes=3, num_iterations=num_iterations, **options)


def test_a_round_by_hand() -> None:
    module = build(num_iterations=1)
    x = torch.randn(1, 5, 4)
    squared = torch.cdist(F.normalize(module.initial, dim=-1), F.normalize(x[0], dim=-1)) ** 2
    share = torch.exp(-squared / 2 / 1.44)
    share = share / share.sum(dim=0)
    expected = (share @ x[0]) / share.sum(dim=1, keepdim=True)
    torch.testing.assert_close(module(x, torch.ones(1, 5, dtype=torch.bool))[0], expected)


def test_padding_counts_only_if_told_so() -> None:
    x = torch.randn(2, 5, 4)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    for count_padding in (False, True):
        module = build(count_padding=count_padding)
        padded, cut = module(x, mask), module(x[1:, :3], mask[1:, :3])
        assert ((padded[1:] - cut).abs().max() > 1e-3) == count_padding
        torch.testing.assert_close(padded[:1], build()(x[:1], mask[:1]))
