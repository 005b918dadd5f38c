# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""FW-MESM: frame-word level enhancement of the video."""

from collections.abc import Callable, Mapping
from typing import Literal, cast

import torch
from torch import Tensor, nn

from mesm_plugin.kernels import Backend, Linear
from mesm_plugin.models.layers import InputProjection, init_xavier_uniform
from mesm_plugin.models.layers.attention_update import UpdateForm
from mesm_plugin.models.layers.cross_attention_layer import TwoWayCrossAttentionLayer
from mesm_plugin.registry import MODELS


@MODELS.register_module()
class FrameWordEnhancer(nn.Module):
    """Lets clips attend to words through an attention that also learns to restore masked words (FW-MESM, Sec. 3.3).

    The defaults follow the paper; `configs/mesm/` sets the released code's form.

    Args:
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the MLP or FFN.
        dropout: Dropout of attention weights and updates.
        num_layers: Cross-attention layers.
        update: "add_mlp" = Eq. 1, "add_norm_ffn" = released code.
        use_position: Whether positions are added to clips and words where they query or are keys (released code).
        num_word_classes: Classes of the masked-language model: the vocabulary, the class of unknown words and, with
            CLIP text, those of start and end.
        masked_word_clips: Clips that masked words are restored from: "video" = all (paper), "moment" = those inside
            the moment (released code).
        separate_ffn: Whether the masked-language branch has an FFN and norms of its own.
        token_dims: Channels of the two special tokens: None = D; Dt = they live among the word features and pass
            through the text projection (released code).
        word_head: "linear" = one fully connected layer (paper), "projection" = LayerNorm, dropout, linear and ReLU
            before it (released code).
        word_head_dropout: Dropout inside the "projection" head.
        kernel_backend: Implementation of the cross-attention: "auto" = Triton on GPUs, "triton" or "reference".

    Raises:
        ValueError: An option has an unknown value.
    """

    independent_queries = True

    def __init__(
        self,
        dims: int = 256,
        heads: int = 8,
        ffn_dims: int = 1024,
        dropout: float = 0.1,
        num_layers: int = 2,
        update: UpdateForm = "add_mlp",
        use_position: bool = False,
        num_word_classes: int = 1112,
        masked_word_clips: Literal["video", "moment"] = "video",
        separate_ffn: bool = False,
        token_dims: int | None = None,
        word_head: Literal["linear", "projection"] = "linear",
        word_head_dropout: float = 0.5,
        kernel_backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if masked_word_clips not in ("video", "moment"):
            raise ValueError(f'masked_word_clips must be "video" or "moment", got {masked_word_clips!r}')
        if word_head not in ("linear", "projection"):
            raise ValueError(f'word_head must be "linear" or "projection", got {word_head!r}')
        self.use_position = use_position
        self.num_word_classes = num_word_classes
        self.masked_word_clips = masked_word_clips
        self.layers = nn.ModuleList(
            TwoWayCrossAttentionLayer(dims, heads, ffn_dims, dropout, update, separate_ffn, kernel_backend)
            for _ in range(num_layers)
        )
        init_xavier_uniform(self.layers)
        self.tokens_are_features = token_dims is not None
        self.mask_token = nn.Parameter(torch.zeros(token_dims or dims))
        self.unknown_token = nn.Parameter(torch.zeros(token_dims or dims))
        classifier = Linear(dims, num_word_classes)
        self.word_head: nn.Module = classifier
        if word_head == "projection":
            self.word_head = nn.Sequential(InputProjection(dims, dims, 1, word_head_dropout), nn.ReLU(), classifier)

    def mask_words(
        self, words: Tensor, batch: Mapping[str, Tensor], project_words: Callable[[Tensor], Tensor] | None
    ) -> Tensor:
        """Replaces out-of-vocabulary words by the unknown token, then the drawn ones by the mask token.

        Args:
            words: (Q, Lw, D) projected words.
            batch: Holds `masked_words` (Q, Lw) bool and, where there is a vocabulary, `unknown_words` (Q, Lw) bool.
            project_words: Projection of the tokens where they live among the word features.

        Returns:
            (Q, Lw, D).

        Raises:
            ValueError: The tokens live among the word features, and `project_words` is missing.
        """
        mask_token, unknown_token = self.mask_token, self.unknown_token
        if self.tokens_are_features:
            if project_words is None:
                raise ValueError(
                    "FrameWordEnhancer with token_dims needs project_words, the grounder's text projection"
                )
            mask_token, unknown_token = project_words(torch.stack((mask_token, unknown_token)))
        if "unknown_words" in batch:
            words = torch.where(batch["unknown_words"][..., None], unknown_token, words)
        return torch.where(batch["masked_words"][..., None], mask_token, words)

    def forward(
        self,
        clips: Tensor,
        clips_position: Tensor,
        clips_mask: Tensor,
        words: Tensor,
        words_mask: Tensor,
        batch: Mapping[str, Tensor],
        words_position: Tensor | None = None,
        words_key: Tensor | None = None,
        words_key_index: Tensor | None = None,
        project_words: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Enhances the clips of each pair.

        Args:
            clips: (V, Lv, D) projected clips.
            clips_position: (V, Lv, D).
            clips_mask: (V, Lv) bool, True = valid.
            words: (Q, Lw, D) projected words.
            words_mask: (Q, Lw) bool, True = valid.
            batch: Indices `pair_video`, `pair_query`, `query_video`; with `masked_words` in it, masked words are
                restored too, and with "moment" from the clips in `segment_mask` (Q, Lv).
            words_position: (Q, Lw, D) positions of the words, or None.
            words_key: (K, Lw, D) keys, where they are not words plus positions.
            words_key_index: (P,) key of each pair, with `words_key`.
            project_words: The grounder's text projection.

        Returns:
            Enhanced clips (P, Lv, D), and logits (Q, Lw, classes) of the restored words or None.
        """
        pair_video, pair_query, query_video = batch["pair_video"], batch["pair_query"], batch["query_video"]
        if not self.use_position:
            words_position = words_key = None
        if words_key is None:
            words_key = words if words_position is None else words + words_position
            words_key_index = pair_query
        assert words_key_index is not None
        words_value = words
        if words_key.shape[0] != words.shape[0]:
            words_value = words.index_select(0, pair_query)
            words_key = words_key.index_select(0, words_key_index)
            words_key_index = None
        pair_words_mask = words_mask.index_select(0, pair_query)
        enhanced = clips.index_select(0, pair_video)
        position = clips_position.index_select(0, pair_video) if self.use_position else None
        clips_key = clips + clips_position if self.use_position else clips
        rows_mask = clips_mask.index_select(0, pair_video)

        if "masked_words" not in batch:
            for layer in self.layers:
                enhanced = layer(
                    enhanced, words_key, words_value, pair_words_mask, words_key_index, position, rows_mask
                )
            return enhanced, None

        restored = self.mask_words(words, batch, project_words)
        restore_mask = batch["segment_mask"] if self.masked_word_clips == "moment" else clips_mask[query_video]
        for layer in cast("list[TwoWayCrossAttentionLayer]", self.layers):
            enhanced, restored = layer.both_directions(
                enhanced,
                position,
                words_key,
                words_value,
                pair_words_mask,
                words_key_index,
                restored,
                words_position,
                clips_key,
                clips,
                restore_mask,
                query_video,
                rows_mask,
            )
        return enhanced, self.word_head(restored)
