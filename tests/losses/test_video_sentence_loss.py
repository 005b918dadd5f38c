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
    assert VideoSentenceLoss(3.0)(similarity, clips, inside).item() == pytest.approx(expected, rel=1e-6)
