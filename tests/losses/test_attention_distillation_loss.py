# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from mesm_plugin.losses import AttentionDistillationLoss


def test_by_hand() -> None:
    weights = torch.tensor([[[0.25, 0.75], [1.0, 0.0]]])
    similarity = torch.zeros(1, 2, 2, requires_grad=True)
    inside = torch.tensor([[True, False]])
    loss = AttentionDistillationLoss(3.0)(weights, similarity, inside)
    divergence = (0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)) / 2
    assert loss.item() == pytest.approx(3 * divergence, rel=1e-4)
    assert not loss.requires_grad


def test_no_clip_inside() -> None:
    inside = torch.zeros(1, 2, dtype=torch.bool)
    assert AttentionDistillationLoss()(torch.ones(1, 2, 2) / 2, torch.zeros(1, 2, 2), inside).item() == 0
