# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import torch

from mesm_plugin.models.layers import anchor_position, clip_position


def test_positions_by_hand() -> None:
    torch.testing.assert_close(
        clip_position(torch.tensor([[True, True, False]]), 4)[0, :, :2],
        torch.tensor([[0.0, -1.0], [0.0, 1.0], [0.0, 1.0]]),
        atol=1e-5,
        rtol=0,
    )
    encoded = anchor_position(torch.tensor([0.25, 0.5]), 8)
    torch.testing.assert_close(encoded[:2], torch.tensor([1.0, 0.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(encoded[4:6], torch.tensor([0.0, -1.0]), atol=1e-5, rtol=0)
