# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""EaTR's decoder: the anchors are the events of the video."""

import torch
from torch import Tensor, nn

from mesm_plugin.kernels import SharedCrossAttention
from mesm_plugin.models.layers.dab_decoder import DABDecoderLayer, inverse_sigmoid
from mesm_plugin.models.layers.initialisation import init_xavier_uniform, init_zeros
from mesm_plugin.models.layers.mlp import MLP
from mesm_plugin.models.layers.positions import anchor_position
from mesm_plugin.models.layers.self_attention import SelfAttention
from mesm_plugin.models.layers.slot_attention import SlotAttention
from mesm_plugin.registry import MODELS

_ATTENTION_DROPOUT = 0.1


class GatedFusion(nn.Module):
    """Brings the sentence into the states, each as far as it agrees with it (as in EaTR).

    Args:
        dims: D.
        dropout: Dropout of what is added to the states.
    """

    def __init__(self, dims: int, dropout: float) -> None:
        super().__init__()
        # With a single key, what a state attends to does not depend on the state; the parameters are the authors'.
        self.cross_attention = SharedCrossAttention(dims, 1, _ATTENTION_DROPOUT, "reference")
        self.self_attention = SelfAttention(dims, 1, _ATTENTION_DROPOUT)
        self.linear = nn.Linear(dims, dims)
        self.norm = nn.LayerNorm(dims)
        self.dropout = nn.Dropout(dropout)

    def forward(self, state: Tensor, sentence: Tensor) -> Tensor:
        """Fuses states (Q, N, D) with the sentence (Q, D)."""
        key = sentence[:, None]
        told = self.cross_attention(state, key, key, torch.ones_like(key[..., 0], dtype=torch.bool))
        gate = (state * told).sigmoid()
        every_state = torch.ones_like(state[..., 0], dtype=torch.bool)
        fused = self.self_attention(state + told, None, every_state)
        return self.norm(state + self.dropout(self.linear(gate * fused).relu()))


@MODELS.register_module()
class EventDecoder(nn.Module):
    """Decoder whose object queries are events found in the video, refined layer by layer (as in EaTR).

    It is given more than other decoders: `EaTR` knows what.

    Args:
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the FFN.
        num_layers: Decoder layers.
        num_queries: N, events.
        dropout: Dropout of attention weights, in the FFN and before the residuals.
        slot_iterations: Rounds of the slot attention that finds the events.
        count_padding: Whether padding takes part as in the peer's code: padded clips in the events and in the threshold
            of their targets, padded words in the sentence. Predictions then depend on the amount of padding.
    """

    def __init__(
        self,
        dims: int = 256,
        heads: int = 8,
        ffn_dims: int = 1024,
        num_layers: int = 2,
        num_queries: int = 10,
        dropout: float = 0.1,
        slot_iterations: int = 3,
        count_padding: bool = False,
    ) -> None:
        super().__init__()
        self.dims = dims
        self.count_padding = count_padding
        self.slot_attention = SlotAttention(dims, slot_iterations, dims, 2, count_padding)
        self.event_norm = nn.LayerNorm(dims)
        self.layers = nn.ModuleList(
            DABDecoderLayer(dims, heads, ffn_dims, dropout, is_first=i == 0, activation="relu")
            for i in range(num_layers)
        )
        self.fusion = GatedFusion(dims, dropout)
        self.norm = nn.LayerNorm(dims)
        self.position_head = MLP(2 * dims, dims, dims, 2)
        self.sine_scale = MLP(dims, dims, dims, 2)
        self.width_head = MLP(dims, dims, 1, 2)
        self.slots = nn.Parameter(torch.empty(num_queries, dims))
        init_xavier_uniform(self)
        self.event_head = MLP(dims, dims, 2, 3)
        init_zeros(self.event_head[-1])

    def find_events(self, clips: Tensor, clips_position: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Finds the events of each video, whatever is asked about it.

        Args:
            clips: (V, Lv, D) projected clips.
            clips_position: (V, Lv, D).
            mask: (V, Lv) bool, True = valid.

        Returns:
            States (V, N, D) of the object queries, the anchors (V, N, 2) that they start from, and the spans (V, N, 2)
            that are to be those of the events; spans are normalised centre and width.
        """
        slots = self.slot_attention(clips + clips_position, mask, self.slots.expand(len(clips), -1, -1))
        anchors, events = self.event_head(torch.stack((slots, self.event_norm(slots)))).sigmoid()
        return slots, anchors, events

    def forward(
        self,
        clips: Tensor,
        clips_position: Tensor,
        position_index: Tensor | None,
        mask: Tensor,
        state: Tensor,
        anchor: Tensor,
        sentence: Tensor,
        span_head: nn.Module,
    ) -> tuple[Tensor, Tensor]:
        """Decodes encoded clips.

        Args:
            clips: (Q, L, D) encoded clips of the positive pairs, and encoded context where there is any.
            clips_position: (V, L, D).
            position_index: (Q,) item of `clips_position` for each query, or None.
            mask: (Q, L) bool, True = valid.
            state: (Q, N, D) events of each query's video.
            anchor: (Q, N, 2) their spans.
            sentence: (Q, D).
            span_head: The head that moves anchors: the same one that reads the spans off the states.

        Returns:
            As `DABDecoder.forward`.
        """
        states, anchors = [], [anchor]
        anchor = anchor.detach()
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, DABDecoderLayer)
            encoded = anchor_position(anchor, 2 * self.dims)
            position = self.position_head(encoded)
            sine = encoded[..., : self.dims] * self.sine_scale(state)
            sine = sine * (self.width_head(state).sigmoid() / anchor[..., 1:])
            state = layer.attend_to_states(state, position, len(clips))
            if i == 0:
                state = self.fusion(state, sentence)
            state = layer.attend_to_clips(state, position, sine, clips, clips_position, position_index, mask)
            state = layer.feed_forward(state)
            states.append(self.norm(state))
            if i + 1 < len(self.layers):
                refined = (span_head(state) + inverse_sigmoid(anchor)).sigmoid()
                anchors.append(refined)
                anchor = refined.detach()
        return torch.stack(states), torch.stack(anchors)
