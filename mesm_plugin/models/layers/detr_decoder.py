# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The decoder with learned object queries and no anchors."""

import torch
from torch import Tensor, nn

from mesm_plugin.kernels import Dropout, SharedCrossAttention, add_norm, feed_forward
from mesm_plugin.models.layers.initialisation import init_xavier_uniform
from mesm_plugin.models.layers.self_attention import SelfAttention
from mesm_plugin.registry import MODELS


class DETRDecoderLayer(nn.Module):
    """Self-attention of the object queries, cross-attention to the clips, ReLU FFN, all post-norm (DETR).

    Args:
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the FFN.
        dropout: Dropout of attention weights, in the FFN and before the residuals.
    """

    def __init__(self, dims: int, heads: int, ffn_dims: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = SelfAttention(dims, heads, dropout)
        self.norm1 = nn.LayerNorm(dims)
        self.cross_attention = SharedCrossAttention(dims, heads, dropout)
        self.norm2 = nn.LayerNorm(dims)
        self.linear1 = nn.Linear(dims, ffn_dims)
        self.activation = nn.ReLU()
        self.linear2 = nn.Linear(ffn_dims, dims)
        self.norm3 = nn.LayerNorm(dims)
        self.dropout = Dropout(dropout)

    def forward(self, state: Tensor, state_position: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """Refines the states of the object queries.

        Args:
            state: (Q, N, D) states of the object queries.
            state_position: (Q, N, D) their learned embeddings.
            key: (Q, L, D) encoded clips plus positions.
            value: (Q, L, D) encoded clips.
            mask: (Q, L) bool, True = valid clip.

        Returns:
            (Q, N, D).
        """
        every_state = mask.new_ones(state.shape[:2])
        attended = self.self_attention(state, state_position, every_state)
        _, state = add_norm(state, attended, self.dropout, self.norm1)
        attended = self.cross_attention(state, key, value, mask, position=state_position)
        _, state = add_norm(state, attended, self.dropout, self.norm2)
        return feed_forward(state, state, self.linear1, self.activation, self.dropout, self.linear2, self.norm3)


@MODELS.register_module()
class DETRDecoder(nn.Module):
    """Decoder of learned object queries (DETR, as in Moment-DETR).

    Args:
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the FFN.
        num_layers: Decoder layers.
        num_queries: N, learned object queries.
        dropout: Dropout of attention weights, in the FFN and before the residuals.
    """

    def __init__(
        self,
        dims: int = 256,
        heads: int = 8,
        ffn_dims: int = 1024,
        num_layers: int = 2,
        num_queries: int = 10,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DETRDecoderLayer(dims, heads, ffn_dims, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(dims)
        init_xavier_uniform(self)
        self.object_queries = nn.Parameter(torch.randn(num_queries, dims))

    def forward(
        self, clips: Tensor, clips_position: Tensor, position_index: Tensor | None, mask: Tensor
    ) -> tuple[Tensor, None]:
        """Decodes encoded clips; arguments as `DABDecoder.forward`.

        Returns:
            The states (layers, Q, N, D), and None: there are no anchors.
        """
        if position_index is not None:
            clips_position = clips_position.index_select(0, position_index)
        key = clips + clips_position
        position = self.object_queries.expand(len(clips), -1, -1)
        state = torch.zeros_like(position)
        states = []
        for layer in self.layers:
            state = layer(state, position, key, clips, mask)
            states.append(self.norm(state))
        return torch.stack(states), None
