# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import torch

from mesm_plugin.models.layers import ClipPooling, SlotAttention


def test_is_slot_attention_of_slots_that_start_alike() -> None:
    torch.manual_seed(0)
    slots, pooling = SlotAttention(8, num_iterations=4, mlp_dims=12, mlp_layers=3), ClipPooling(8, 4, mlp_dims=12)
    pooling.load_state_dict({name: value for name, value in slots.state_dict().items() if name in pooling.state_dict()})
    sentence, clips = torch.randn(2, 8), torch.randn(2, 5, 8)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    expected = slots(clips, mask, sentence[:, None].expand(-1, 3, -1))
    torch.testing.assert_close(pooling(sentence, clips, mask)[:, None].expand(-1, 3, -1), expected)
