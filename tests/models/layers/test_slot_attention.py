# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import torch

from mesm_plugin.models.layers.slot_attention import SlotAttention


def build(**options: bool) -> SlotAttention:
    torch.manual_seed(0)
    return SlotAttention(dims=8, num_iterations=3, mlp_dims=12, mlp_layers=2, **options)


def test_a_round_by_hand() -> None:
    module = build()
    module.num_iterations = 1
    inputs, slots = torch.randn(1, 5, 8), torch.randn(1, 3, 8)
    x = module.norm_inputs(inputs)[0]
    scores = module.query(module.norm_slots(slots))[0] @ module.key(x).T / 8**0.5
    share = scores.exp() / scores.exp().sum(dim=0)
    mean = (share[:, :, None] * module.value(x)).sum(dim=1) / share.sum(dim=1, keepdim=True)
    updated = slots[0] + mean
    expected = module.norm_out(updated + module.mlp(module.norm_mlp(updated)))
    torch.testing.assert_close(module(inputs, torch.ones(1, 5, dtype=torch.bool), slots)[0], expected)


def test_padding_counts_only_if_told_so() -> None:
    inputs, slots = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    for count_padding in (False, True):
        module = build(count_padding=count_padding)
        padded = module(inputs, mask, slots)
        cut = module(inputs[1:, :3], mask[1:, :3], slots[1:])
        assert ((padded[1:] - cut).abs().max() > 1e-3) == count_padding
        torch.testing.assert_close(padded[:1], build()(inputs[:1], mask[:1], slots[:1]))


def test_slots_that_start_alike_stay_alike() -> None:
    module = build()
    slots = module(torch.randn(1, 5, 8), torch.ones(1, 5, dtype=torch.bool), torch.randn(1, 1, 8).expand(1, 3, 8))
    torch.testing.assert_close(slots[0, 0], slots[0, 2])
