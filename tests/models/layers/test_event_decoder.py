# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from typing import Any

import torch

from mesm_plugin.models import EventDecoder
from mesm_plugin.models.layers import MLP, anchor_position, clip_position

SIZES: dict[str, Any] = {"dims": 16, "heads": 2, "ffn_dims": 24, "num_queries": 4, "dropout": 0.0}


def build(**options: Any) -> EventDecoder:
    torch.manual_seed(0)
    return EventDecoder(**SIZES, **options).eval()


def test_fusion_by_hand() -> None:
    fusion = build().fusion
    state, sentence = torch.randn(2, 3, 16), torch.randn(2, 16)
    # With one key, every state attends to its value alone.
    weight, bias = fusion.cross_attention.in_proj_weight[32:], fusion.cross_attention.in_proj_bias[32:]
    told = fusion.cross_attention.out_proj(sentence @ weight.T + bias)[:, None]
    fused = fusion.self_attention(state + told, None, torch.ones(2, 3, dtype=torch.bool))
    expected = fusion.norm(state + fusion.linear((state * told).sigmoid() * fused).relu())
    torch.testing.assert_close(fusion(state, sentence), expected)


def test_events_start_as_the_middle_half_of_the_video() -> None:
    clips, mask = torch.randn(2, 7, 16), torch.ones(2, 7, dtype=torch.bool)
    slots, anchors, events = build().find_events(clips, clip_position(mask, 16), mask)
    assert slots.shape == (2, 4, 16)
    assert (slots[:, 0] - slots[:, 1]).abs().max() > 1e-2
    torch.testing.assert_close(anchors, torch.full((2, 4, 2), 0.5))
    torch.testing.assert_close(events, torch.full((2, 4, 2), 0.5))


def test_events_depend_on_padding_only_if_told_so() -> None:
    clips, mask = torch.randn(1, 7, 16), torch.tensor([[True] * 5 + [False] * 2])
    for count_padding in (False, True):
        decoder = build(count_padding=count_padding)
        position = clip_position(mask, 16)
        padded = decoder.find_events(clips, position, mask)[0]
        cut = decoder.find_events(clips[:, :5], position[:, :5], mask[:, :5])[0]
        assert ((padded - cut).abs().max() > 1e-3) == count_padding


def test_anchors_move_by_the_span_head_and_are_passed_on_without_gradient() -> None:
    decoder, head = build(num_layers=3), MLP(16, 16, 2, 3)
    clips, mask = torch.randn(2, 7, 16), torch.ones(2, 7, dtype=torch.bool)
    state = torch.randn(2, 4, 16)
    anchor = torch.rand(2, 4, 2).requires_grad_()
    states, anchors = decoder(
        clips, clip_position(mask, 16), torch.arange(2), mask, state, anchor, torch.randn(2, 16), head
    )
    assert states.shape == (3, 2, 4, 16)
    assert torch.equal(anchors[0], anchor)
    assert torch.autograd.grad(anchors[2].sum(), head[-1].weight, retain_graph=True)[0].abs().sum() > 0
    assert torch.autograd.grad(states.sum(), anchor, retain_graph=True, allow_unused=True)[0] is None
    assert torch.autograd.grad(states.sum(), head[-1].weight, allow_unused=True)[0] is None


def test_only_the_centre_steers_where_a_state_looks() -> None:
    # The encoding is twice as wide as D, the centre in its first half.
    encoded = anchor_position(torch.tensor([0.3, 0.6]), 32)
    other = anchor_position(torch.tensor([0.3, 0.2]), 32)
    torch.testing.assert_close(encoded[:16], other[:16])
    assert (encoded[16:] - other[16:]).abs().max() > 0.1
