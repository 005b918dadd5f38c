# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from mesm_plugin.losses import VideoSentenceLoss


def test_by_hand() -> None:
    similarity = torch.tensor([[1.0, 0.0], [0.5, 0.25]])
    videos = (math.log(math.e + 1) - 1 + math.log(math.exp(0.5) + math.exp(0.25)) - 0.25) / 2
    sentences = (math.log(math.e + math.exp(0.5)) - 1 + math.log(1 + math.exp(0.25)) - 0.25) / 2
    clips = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    inside = torch.tensor([[True, False], [True, True]])
    clip_term = (math.log(math.e + 1) - 1 + 2 * math.log(2)) / 4
    expected = 3 * ((videos + sentences) / 2 + clip_term) / 2
    assert VideoSentenceLoss(3.0)(similarity, clips, inside, torch.ones_like(inside)).item() == pytest.approx(
        expected, rel=1e-6
    )


def test_padded_clips_count_nowhere() -> None:
    similarity, clips = torch.eye(2), torch.tensor([[1.0, 0.0, 0.5], [0.25, torch.nan, torch.inf]])
    inside = torch.tensor([[True, True, False], [True, False, False]])
    valid = torch.tensor([[True, True, True], [True, False, False]])
    clips.requires_grad_()
    loss = VideoSentenceLoss()(similarity, clips, inside, valid)
    pairs = math.log(math.e + 1) - 1
    # The clip of the second video is its only one.
    clip_term = (2 * math.log(math.e + 1 + math.exp(0.5)) - 1) / 4
    assert loss.item() == pytest.approx((pairs + clip_term) / 2, rel=1e-6)
    loss.backward()
    assert clips.grad is not None
    assert clips.grad.isfinite().all()
    assert not clips.grad[1].any()
