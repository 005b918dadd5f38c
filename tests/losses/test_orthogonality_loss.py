# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from mesm_plugin.losses import OrthogonalityLoss


def test_by_hand() -> None:
    one = torch.tensor([[[3.0, 0.0], [0.0, -2.0]], [[1.0, 0.0], [-1.0, 0.0]]])
    # Cosines: 0 in the first, -1 twice in the second; 2 of 8.
    assert OrthogonalityLoss(3.0)(one).item() == pytest.approx(3 * 2 / 8)
    other = torch.tensor([[1.0, 0.0], [1.0, 3.0**0.5]])
    assert OrthogonalityLoss()(one, other).item() == pytest.approx(2 / 8 + 2 * 0.5 / 4)


def test_a_single_token_is_apart() -> None:
    assert OrthogonalityLoss()(torch.ones(2, 1, 3)).item() == 0
