# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The DAB-style decoder with learned spans."""

from typing import Literal

import torch
from torch import Tensor, nn

from mesm_plugin.kernels import Dropout, Linear, add_norm, feed_forward, masked_attention
from mesm_plugin.models.layers.activation import Activation, build_activation
from mesm_plugin.models.layers.initialisation import init_xavier_uniform
from mesm_plugin.models.layers.mlp import MLP
from mesm_plugin.models.layers.positions import anchor_position
from mesm_plugin.registry import MODELS


def inverse_sigmoid(x: Tensor, eps: float = 1e-3) -> Tensor:
    """Logit of x, with x and 1 - x kept at least `eps`."""
    x = x.clamp(0, 1)
    return (x.clamp(min=eps) / (1 - x).clamp(min=eps)).log()


class DABDecoderLayer(nn.Module):
    """Self-attention of the object queries, cross-attention to the clips, FFN (DAB-DETR, as in QD-DETR).

    In cross-attention content and position are concatenated per head, so that their dot products add up. Only the first
    layer also adds projected positions to the contents.

    Args:
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the FFN.
        dropout: Dropout of attention weights, in the FFN and before the residuals.
        is_first: Whether the layer is the first of its decoder.
        activation: Activation inside the FFN.
    """

    def __init__(
        self,
        dims: int,
        heads: int,
        ffn_dims: int,
        dropout: float,
        is_first: bool,
        activation: Activation = "prelu",
    ) -> None:
        super().__init__()
        self.heads = heads
        self.attention_dropout = dropout
        self.self_query_content = Linear(dims, dims)
        self.self_query_position = Linear(dims, dims)
        self.self_key_content = Linear(dims, dims)
        self.self_key_position = Linear(dims, dims)
        self.self_value = Linear(dims, dims)
        self.self_out = Linear(dims, dims)
        self.norm1 = nn.LayerNorm(dims)
        self.cross_query_content = Linear(dims, dims)
        self.cross_query_position = Linear(dims, dims) if is_first else None
        self.cross_query_sine = Linear(dims, dims)
        self.cross_key_content = Linear(dims, dims)
        self.cross_key_position = Linear(dims, dims)
        self.cross_value = Linear(dims, dims)
        self.cross_out = Linear(dims, dims)
        self.norm2 = nn.LayerNorm(dims)
        self.linear1 = Linear(dims, ffn_dims)
        self.activation = build_activation(activation)
        self.linear2 = Linear(ffn_dims, dims)
        self.norm3 = nn.LayerNorm(dims)
        self.dropout = Dropout(dropout)
        nn.init.zeros_(self.self_out.bias)
        nn.init.zeros_(self.cross_out.bias)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        return masked_attention(query, key, value, mask, self.attention_dropout if self.training else 0.0).flatten(-2)

    def forward(
        self,
        state: Tensor,
        state_position: Tensor,
        state_sine: Tensor,
        clips: Tensor,
        clips_position: Tensor,
        position_index: Tensor | None,
        mask: Tensor,
    ) -> Tensor:
        """Refines the states of the object queries.

        What is given for the object queries may be (1, N, D) where all queries have it in common; it is projected once.

        Args:
            state: (Q, N, D) states of the object queries.
            state_position: (Q, N, D) positions made from their anchors.
            state_sine: (Q, N, D) sine encoding of the anchors, modulated.
            clips: (Q, L, D) encoded clips.
            clips_position: (V, L, D).
            position_index: (Q,) item of `clips_position` for each query, or None.
            mask: (Q, L) bool, True = valid clip.

        Returns:
            (Q, N, D).
        """
        state = self.attend_to_states(state, state_position, len(clips))
        state = self.attend_to_clips(state, state_position, state_sine, clips, clips_position, position_index, mask)
        return self.feed_forward(state)

    def attend_to_states(self, state: Tensor, state_position: Tensor, queries: int) -> Tensor:
        """Self-attention of the object queries of Q = `queries` queries; other arguments and result as `forward`."""
        query = self.self_query_content(state) + self.self_query_position(state_position)
        key = self.self_key_content(state) + self.self_key_position(state_position)
        # Each query drops weights of its own.
        state, query, key, value = (x.expand(queries, -1, -1) for x in (state, query, key, self.self_value(state)))
        attended = self._attend(
            self._split_heads(query),
            self._split_heads(key),
            self._split_heads(value),
            torch.ones(state.shape[:2], dtype=torch.bool, device=state.device),
        )
        return add_norm(state, self.self_out(attended), self.dropout, self.norm1)[1]

    def attend_to_clips(
        self,
        state: Tensor,
        state_position: Tensor,
        state_sine: Tensor,
        clips: Tensor,
        clips_position: Tensor,
        position_index: Tensor | None,
        mask: Tensor,
    ) -> Tensor:
        """Cross-attention of the object queries to the clips; arguments and result as `forward`."""
        query = self.cross_query_content(state)
        key = self.cross_key_content(clips)
        key_position = self.cross_key_position(clips_position)
        if position_index is not None:
            key_position = key_position.index_select(0, position_index)
        if self.cross_query_position is not None:
            query = query + self.cross_query_position(state_position)
            key = key + key_position
        sine = self.cross_query_sine(state_sine).expand_as(query)
        query = torch.cat((self._split_heads(query), self._split_heads(sine)), dim=-1)
        key = torch.cat((self._split_heads(key), self._split_heads(key_position)), dim=-1)
        attended = self._attend(query, key, self._split_heads(self.cross_value(clips)), mask)
        return add_norm(state, self.cross_out(attended), self.dropout, self.norm2)[1]

    def feed_forward(self, state: Tensor) -> Tensor:
        """FFN over the states (Q, N, D)."""
        return feed_forward(state, state, self.linear1, self.activation, self.dropout, self.linear2, self.norm3)


@MODELS.register_module()
class DABDecoder(nn.Module):
    """Decoder that refines learned spans layer by layer (Sec. 3.4 of MESM, as in QD-DETR).

    Args:
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the FFN.
        num_layers: Decoder layers.
        num_queries: N, learned spans.
        dropout: Dropout of attention weights, in the FFN and before the residuals.
        anchors: What the learned spans start from: "even" = centres spread evenly over the video, a quarter of it wide;
            "normal" = logits drawn from a standard normal distribution (released code).
        learned_state: Whether the states of the object queries start from learned vectors (UVCOM) instead of zeros.
        refined_anchors: Whether the anchors that are returned are those that each layer leaves (UVCOM), instead of
            those that it starts from.

    Raises:
        ValueError: `anchors` has an unknown value.
    """

    def __init__(
        self,
        dims: int = 256,
        heads: int = 8,
        ffn_dims: int = 1024,
        num_layers: int = 2,
        num_queries: int = 10,
        dropout: float = 0.1,
        anchors: Literal["even", "normal"] = "even",
        learned_state: bool = False,
        refined_anchors: bool = False,
    ) -> None:
        super().__init__()
        if anchors not in ("even", "normal"):
            raise ValueError(f'anchors must be "even" or "normal", got {anchors!r}')
        self.dims = dims
        self.refined_anchors = refined_anchors
        self.layers = nn.ModuleList(
            DABDecoderLayer(dims, heads, ffn_dims, dropout, is_first=i == 0) for i in range(num_layers)
        )
        self.initial_state = nn.Parameter(torch.empty(num_queries, dims)) if learned_state else None
        self.norm = nn.LayerNorm(dims)
        self.position_head = MLP(dims, dims, dims, 2)
        self.sine_scale = MLP(dims, dims, dims, 2)
        self.width_head = MLP(dims, dims, 1, 2)
        self.refinement_head = MLP(dims, dims, 2, 3)
        init_xavier_uniform(self)
        last = self.refinement_head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.bias)
        logits = torch.randn(num_queries, 2)
        if anchors == "even":
            centre = (torch.arange(num_queries) + 0.5) / num_queries
            logits = torch.stack((centre, torch.full_like(centre, 0.25)), dim=1).logit()
        self.anchors = nn.Parameter(logits)

    def forward(
        self,
        clips: Tensor,
        clips_position: Tensor,
        position_index: Tensor | None,
        mask: Tensor,
        state: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decodes encoded clips.

        Args:
            clips: (Q, L, D) encoded clips of the positive pairs, and encoded context where there is any.
            clips_position: (V, L, D).
            position_index: (Q,) item of `clips_position` for each query, its video; None where they correspond one to
                one.
            mask: (Q, L) bool, True = valid.
            state: (Q, D) added to what the states of a query start from, or None.

        Returns:
            The states (layers, Q, N, D) and the anchors that each layer starts from or leaves (layers, Q, N, 2),
            normalised centre and width.
        """
        # Before the first layer all queries have them in common.
        anchor = self.anchors.sigmoid()[None]
        start = clips.new_zeros(*anchor.shape[:2], self.dims)
        if self.initial_state is not None:
            start = start + self.initial_state
        state = start if state is None else start + state[:, None]
        states, anchors = [], [] if self.refined_anchors else [anchor.expand(len(clips), -1, -1)]
        for i, layer in enumerate(self.layers):
            sine = anchor_position(anchor, self.dims)
            position = self.position_head(sine)
            if i > 0:
                sine = sine * self.sine_scale(state)
            sine = sine * (self.width_head(state).sigmoid() / anchor[..., 1:])
            state = layer(state, position, sine, clips, clips_position, position_index, mask)
            states.append(state)
            if len(anchors) < len(self.layers):
                refined = (self.refinement_head(state) + inverse_sigmoid(anchor)).sigmoid()
                anchors.append(refined)
                anchor = refined.detach()
        return self.norm(torch.stack(states)), torch.stack(anchors)
