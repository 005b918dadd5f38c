# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import torch
from torch import nn

from mesm_plugin.models import DETRDecoder
from mesm_plugin.models.layers import clip_position

SIZES = {"dims": 16, "heads": 2, "ffn_dims": 24, "num_layers": 2, "num_queries": 4, "dropout": 0.0}


def test_a_layer_is_that_of_the_transformer() -> None:
    # PyTorch's own layer has no positions, so ours must equal it where they are zero.
    torch.manual_seed(0)
    ours = DETRDecoder(**SIZES).layers[0]
    reference = nn.TransformerDecoderLayer(16, 2, 24, 0.0, batch_first=True)
    names = {"self_attn": "self_attention", "multihead_attn": "cross_attention"}
    state_dict = ours.state_dict()
    reference.load_state_dict({name: state_dict[_renamed(name, names)] for name in reference.state_dict()})
    state, clips = torch.randn(3, 4, 16), torch.randn(3, 7, 16)
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3, [True] + [False] * 6])
    expected = reference(state, clips, memory_key_padding_mask=~mask)
    torch.testing.assert_close(ours(state, torch.zeros_like(state), clips, clips, mask), expected)


def _renamed(name: str, names: dict[str, str]) -> str:
    head, _, rest = name.partition(".")
    return f"{names.get(head, head)}.{rest}"


def test_positions_by_index_and_padding() -> None:
    torch.manual_seed(0)
    decoder = DETRDecoder(**SIZES)
    clips, index = torch.randn(3, 7, 16), torch.tensor([0, 1, 1])
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3, [True] * 4 + [False] * 3])
    position = clip_position(mask[:2], 16)
    states, anchors = decoder(clips, position, index, mask)
    assert states.shape == (2, 3, 4, 16)
    assert anchors is None
    torch.testing.assert_close(decoder(clips, position[index], None, mask)[0], states)
    clips[1:, 4:] = 100.0
    torch.testing.assert_close(decoder(clips, position, index, mask)[0], states)
