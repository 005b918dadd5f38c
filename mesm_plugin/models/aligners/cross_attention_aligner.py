# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""QD-DETR's way of bringing clips and words together: clips attend to words."""

from collections.abc import Callable, Mapping

from torch import Tensor

from mesm_plugin.kernels import Backend
from mesm_plugin.models.aligners.base_aligner import AlignerOutput, BaseAligner
from mesm_plugin.models.layers import LearnedWordPosition, cross_attention_stack
from mesm_plugin.models.parts import ConfigType
from mesm_plugin.registry import MODELS


@MODELS.register_module()
class CrossAttentionAligner(BaseAligner):
    """Lets the clips of each pair attend to its words, layer by layer (as in QD-DETR).

    Args:
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the FFNs.
        dropout: Dropout of attention weights and updates.
        num_layers: Cross-attention layers.
        word_position: Arguments of `LearnedWordPosition`, None = words have no position.
        kernel_backend: Implementation of cross-attention: "auto" = Triton on GPUs, "triton" or "reference".
    """

    independent_queries = True

    def __init__(
        self,
        dims: int = 256,
        heads: int = 8,
        ffn_dims: int = 1024,
        dropout: float = 0.1,
        num_layers: int = 2,
        word_position: ConfigType | None = None,
        kernel_backend: Backend = "auto",
    ) -> None:
        super().__init__()
        self.word_position = LearnedWordPosition(dims, **word_position) if word_position is not None else None
        self.layers = cross_attention_stack(num_layers, dims, heads, ffn_dims, dropout, kernel_backend)

    def forward(
        self,
        clips: Tensor,
        clips_position: Tensor,
        clips_mask: Tensor,
        words: Tensor,
        words_mask: Tensor,
        batch: Mapping[str, Tensor],
        project_words: Callable[[Tensor], Tensor] | None = None,
    ) -> AlignerOutput:
        """Aligns clips to words; see `BaseAligner.forward`."""
        pair_video, pair_query = batch["pair_video"], batch["pair_query"]
        aligned = clips.index_select(0, pair_video)
        position = clips_position.index_select(0, pair_video)
        key = words if self.word_position is None else words + self.word_position(words)
        mask = words_mask.index_select(0, pair_query)
        for layer in self.layers:
            aligned = layer(aligned, key, words, mask, pair_query, position)
        return AlignerOutput(aligned, words, words_mask)
