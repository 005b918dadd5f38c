# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""SS-MESM: segment-sentence level enhancement of the query."""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mesm_plugin.kernels import Backend
from mesm_plugin.models.layers import CrossAttentionLayer, masked_mean
from mesm_plugin.registry import MODELS


@MODELS.register_module()
class SegmentSentenceEnhancer(nn.Module):
    """Generates a token of complementary knowledge for each query from its video (SS-MESM, Sec. 3.3, Eq. 3).

    The sentence of the query is replaced by a learned mask token, which attends to the clips of the source video.
    Cross-attention alone lets no sentence influence another, so with `context="none"` all queries of a source video get
    the same token, and it is computed once.

    Args:
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the FFN.
        dropout: Dropout of attention weights and updates.
        num_layers: Cross-attention layers.
        context: "none", or "attend": the sentences of a video, the query's own being masked, attend to one another
            before they attend to the clips.
        normalize: Whether the token is scaled to unit length (released code).
        kernel_backend: Implementation of the cross-attention: "auto" = Triton on GPUs, "triton" or "reference".

    Raises:
        ValueError: `context` has an unknown value.
    """

    def __init__(
        self,
        dims: int = 256,
        heads: int = 8,
        ffn_dims: int = 1024,
        dropout: float = 0.1,
        num_layers: int = 4,
        context: Literal["none", "attend"] = "none",
        normalize: bool = False,
        kernel_backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if context not in ("none", "attend"):
            raise ValueError(f'context must be "none" or "attend", got {context!r}')
        self.normalize = normalize
        self.mask_token = nn.Parameter(torch.zeros(dims))

        def build_layer() -> CrossAttentionLayer:
            return CrossAttentionLayer(dims, heads, ffn_dims, dropout, kernel_backend=kernel_backend)

        self.independent_queries = context == "none"
        self.context_layer = build_layer() if context == "attend" else None
        self.layers = nn.ModuleList(build_layer() for _ in range(num_layers))

    def _attend_to_sentences(self, layer: CrossAttentionLayer, sentences: Tensor, query_source: Tensor) -> Tensor:
        """Mask tokens (Q, 1, D) after each has seen itself and the other sentences (Q, D) of its source video."""
        queries = sentences.shape[0]
        token = self.mask_token.expand(1, 1, -1)
        members = torch.cat((token, sentences[None]), dim=1)
        others = (query_source[:, None] == query_source[None]).fill_diagonal_(False)
        mask = F.pad(others, (1, 0), value=True)
        index = query_source.new_zeros(queries)
        return layer(token.expand(queries, 1, -1), members, members, mask, index)

    def forward(self, clips: Tensor, words: Tensor, words_mask: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Generates the tokens.

        Args:
            clips: (V, Lv, D) projected clips.
            words: (Q, Lw, D) projected words.
            words_mask: (Q, Lw) bool, True = valid.
            batch: `source` (V,), `query_video` (Q,), and `source_clips` (S, Ls) with `source_clips_mask`: the clips
                of each source video among the flattened V * Lv clips.

        Returns:
            (Q, D).
        """
        source_mask = batch["source_clips_mask"]
        sources, length = source_mask.shape
        source_clips = clips.flatten(0, 1).index_select(0, batch["source_clips"].flatten())
        source_clips = source_clips.view(sources, length, -1)
        query_source = batch["source"].index_select(0, batch["query_video"])

        if self.context_layer is None:
            token, index = self.mask_token.expand(sources, 1, -1), None
        else:
            sentences = masked_mean(words, words_mask)
            token, index = self._attend_to_sentences(self.context_layer, sentences, query_source), query_source
            source_mask = source_mask.index_select(0, query_source)
        for layer in self.layers:
            token = layer(token, source_clips, source_clips, source_mask, index)
        token = token[:, 0]
        if self.normalize:
            token = F.normalize(token, dim=-1)
        return token.index_select(0, query_source) if index is None else token
