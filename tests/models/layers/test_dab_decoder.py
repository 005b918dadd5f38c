# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from mesm_plugin.models import DABDecoder
from mesm_plugin.models.layers import clip_position, inverse_sigmoid

SIZES = {"dims": 16, "heads": 2, "ffn_dims": 24, "num_layers": 2, "num_queries": 4, "dropout": 0.0}


def test_even_anchors_cover_the_video() -> None:
    anchors = DABDecoder(**SIZES).anchors.detach().sigmoid()
    torch.testing.assert_close(anchors[:, 0], torch.tensor([0.125, 0.375, 0.625, 0.875]))
    torch.testing.assert_close(anchors[:, 1], torch.full((4,), 0.25))


def test_normal_anchors_are_drawn() -> None:
    torch.manual_seed(0)
    logits = DABDecoder(**{**SIZES, "num_queries": 2000}, anchors="normal").anchors.detach()
    assert logits.mean().item() == pytest.approx(0.0, abs=0.06)
    assert logits.std().item() == pytest.approx(1.0, abs=0.05)


def test_unknown_anchors_are_named() -> None:
    with pytest.raises(ValueError, match="anchors must be .*, got 'grid'"):
        DABDecoder(**SIZES, anchors="grid")  # type: ignore[arg-type]


def test_refined_anchors_are_passed_on_without_gradient_to_the_previous_refinement() -> None:
    torch.manual_seed(0)
    decoder = DABDecoder(**SIZES)
    clips, mask = torch.randn(3, 7, 16), torch.ones(3, 7, dtype=torch.bool)
    states, anchors = decoder(clips, clip_position(mask, 16), torch.arange(3), mask)
    assert states.shape == (2, 3, 4, 16)
    refinement = decoder.refinement_head[-1].weight
    # The second layer's states see the first refinement only as a number; the anchors that are given out carry it.
    assert torch.autograd.grad(states[1].sum(), refinement, retain_graph=True, allow_unused=True)[0] is None
    assert torch.autograd.grad(anchors[1].sum(), refinement)[0].abs().sum() > 0


def test_padded_clips_have_no_influence() -> None:
    torch.manual_seed(0)
    decoder = DABDecoder(**SIZES)
    clips, mask = torch.randn(2, 7, 16), torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    position = clip_position(mask, 16)
    states, _ = decoder(clips, position, torch.arange(2), mask)
    clips[1, 4:] = 100.0
    other, _ = decoder(clips, position, torch.arange(2), mask)
    torch.testing.assert_close(states, other)


def test_inverse_sigmoid_is_bounded() -> None:
    values = inverse_sigmoid(torch.tensor([-1.0, 0.0, 0.2, 0.5, 1.0, 2.0]))
    largest = torch.tensor(1000.0).log()
    expected = torch.stack((-largest, -largest, torch.tensor(0.25).log(), torch.tensor(0.0), largest, largest))
    torch.testing.assert_close(values, expected)
