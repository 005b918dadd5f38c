# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Layers of cross-attention to the other modality, one way and both ways."""

from torch import Tensor, nn

from mesm_plugin.kernels import Backend, SharedCrossAttention
from mesm_plugin.models.layers.attention_update import AddMLP, AddNormFFN, UpdateForm, build_update
from mesm_plugin.models.layers.initialisation import init_xavier_uniform


class CrossAttentionLayer(nn.Module):
    """Cross-attention to the other modality, and the update of the one that attends.

    Args:
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the FFN or MLP.
        dropout: Dropout of attention weights and of the update.
        update: "add_norm_ffn" (QD-DETR, released MESM) or "add_mlp" (Eq. 1).
        kernel_backend: Implementation of the attention: "auto", "triton" or "reference".
    """

    def __init__(
        self,
        dims: int,
        heads: int,
        ffn_dims: int,
        dropout: float,
        update: UpdateForm = "add_norm_ffn",
        kernel_backend: Backend = "auto",
    ) -> None:
        super().__init__()
        self.attention = SharedCrossAttention(dims, heads, dropout, kernel_backend)
        self.update = build_update(update, dims, ffn_dims, dropout, nn.PReLU())

    def forward(
        self,
        x: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor,
        index: Tensor | None = None,
        position: Tensor | None = None,
        rows_mask: Tensor | None = None,
    ) -> Tensor:
        """Lets x attend to keys.

        Args:
            x: (P, Lq, D).
            key, value: (Q, Lk, D), repeated for the P items by `index`.
            mask: (P, Lk) bool, True = valid key.
            index: (P,) item of key and value for each item of x; None where they correspond one to one.
            position: (P, Lq, D) added to x where it queries, or None.
            rows_mask: (P, Lq) bool, True = valid, or None = all; what comes out of other rows is not to be used.

        Returns:
            (P, Lq, D).
        """
        return self.update(x, self.attention(x, key, value, mask, index, position, rows_mask), rows_mask)


def cross_attention_stack(
    num_layers: int, dims: int, heads: int, ffn_dims: int, dropout: float, kernel_backend: Backend = "auto"
) -> nn.ModuleList:
    """Layers of cross-attention one after the other, initialised as in QD-DETR; arguments as `CrossAttentionLayer`."""
    layers = nn.ModuleList(
        CrossAttentionLayer(dims, heads, ffn_dims, dropout, kernel_backend=kernel_backend) for _ in range(num_layers)
    )
    init_xavier_uniform(layers)
    return layers


class TwoWayCrossAttentionLayer(CrossAttentionLayer):
    """Cross-attention whose weights also let words attend to clips (FW-MESM).

    Args:
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the FFN or MLP.
        dropout: Dropout of attention weights and of the updates.
        update: See `CrossAttentionLayer`.
        separate_ffn: Whether the words have an FFN (or MLP) and norms of their own; the slope of the FFN's activation
            stays shared.
        kernel_backend: See `CrossAttentionLayer`.
    """

    def __init__(
        self,
        dims: int,
        heads: int,
        ffn_dims: int,
        dropout: float,
        update: UpdateForm,
        separate_ffn: bool,
        kernel_backend: Backend = "auto",
    ) -> None:
        super().__init__(dims, heads, ffn_dims, dropout, update, kernel_backend)
        self.words_update: AddMLP | AddNormFFN | None = None
        if separate_ffn:
            activation = self.update.activation if isinstance(self.update, AddNormFFN) else nn.PReLU()
            self.words_update = build_update(update, dims, ffn_dims, dropout, activation)

    def both_directions(
        self,
        clips: Tensor,
        clips_position: Tensor | None,
        words_key: Tensor,
        words_value: Tensor,
        words_mask: Tensor,
        words_index: Tensor | None,
        words: Tensor,
        words_position: Tensor | None,
        clips_key: Tensor,
        clips_value: Tensor,
        clips_mask: Tensor,
        clips_index: Tensor,
        rows_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Lets the clips of each pair attend to words, and masked words to clips.

        Args:
            clips: (P, Lv, D) clips of each pair.
            clips_position: (P, Lv, D) added to them where they query, or None.
            words_key, words_value: (Q, Lw, D), repeated for the pairs by `words_index`.
            words_mask: (P, Lw) bool, True = valid.
            words_index: (P,) words of each pair; None where they correspond one to one.
            words: (Q, Lw, D) masked words.
            words_position: (Q, Lw, D) added to them where they query, or None.
            clips_key, clips_value: (V, Lv, D), repeated for the queries by `clips_index`.
            clips_mask: (Q, Lv) bool, True = clip that words are restored from.
            clips_index: (Q,) video of each query.
            rows_mask: (P, Lv) bool, True = valid clip of a pair, or None = all; what comes out of other clips is not to
                be used.

        Returns:
            (P, Lv, D) and (Q, Lw, D).
        """
        attended_clips, attended_words = self.attention.both_directions(
            clips,
            words_key,
            words_value,
            words_mask,
            words_index,
            words,
            clips_key,
            clips_value,
            clips_mask,
            clips_index,
            clips_position,
            words_position,
            rows_mask,
        )
        words_update = self.update if self.words_update is None else self.words_update
        return self.update(clips, attended_clips, rows_mask), words_update(words, attended_words)
