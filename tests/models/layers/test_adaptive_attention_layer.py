# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import torch

from mesm_plugin.models.layers import AdaptiveAttentionLayer

SIZES = {"dims": 4, "heads": 2, "ffn_dims": 6, "dropout": 0.0}


def test_weights_by_hand() -> None:
    attention = AdaptiveAttentionLayer(**SIZES).attention
    torch.nn.init.eye_(attention.out_proj.weight)
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 3, 4), torch.randn(1, 5, 4), torch.randn(1, 2, 4)
    mask = torch.tensor([[True, True, True, True, False]])
    attended, weights = attention(query, key, value, mask)
    heads = []
    for head in (slice(0, 2), slice(2, 4)):
        by_hand = (query[0, :, head] @ key[0, :4, head].T / 2**0.5).softmax(dim=-1)
        # The first three keys are dummies; of the two words one is padding.
        torch.testing.assert_close(attended[0, :, head], by_hand[:, 3:] * value[0, :1, head])
        heads.append(by_hand)
    torch.testing.assert_close(weights[0, :, :4], (heads[0] + heads[1]) / 2)
    assert not weights[0, :, 4].any()


def test_without_keys_is_attention_to_values_of_zero() -> None:
    torch.manual_seed(0)
    layer = AdaptiveAttentionLayer(**SIZES)
    torch.nn.init.normal_(layer.attention.out_proj.bias)
    x, position, key = torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    updated, _ = layer(x, position, key, torch.zeros(2, 2, 4), torch.ones(2, 5, dtype=torch.bool))
    torch.testing.assert_close(layer.without_keys(x), updated)
