# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""TR-DETR's way of bringing clips and words together: both are aligned before the network, then fused twice."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mesm_plugin.kernels import Backend
from mesm_plugin.models.aligners.base_aligner import AlignerOutput, BaseAligner
from mesm_plugin.models.layers import TrilinearFusion, cross_attention_stack, masked_mean
from mesm_plugin.models.parts import DEFAULTS, ConfigType, build_part
from mesm_plugin.registry import MODELS


@MODELS.register_module()
class TRDETRAligner(BaseAligner):
    """Fuses clips with words by their similarity, then lets clips attend to words (TR-DETR, Sun et al., AAAI 2024).

    Two losses bring the projected features of clips and words together beforehand.

    Args:
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the FFNs.
        dropout: Dropout of attention weights, updates, and features whose similarity is taken.
        num_layers: Cross-attention layers.
        clip_sentence_loss: Config of the loss between clips and their sentence, by default of type `ClipSentenceLoss`.
        contrastive_loss: Config of the loss between the videos and the sentences of a batch, by default of type
            `VideoSentenceContrastiveLoss`.
        count_padding: Whether padded clips and words count in the means of the losses, as in the peer's code.
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
        clip_sentence_loss: ConfigType = DEFAULTS,
        contrastive_loss: ConfigType = DEFAULTS,
        count_padding: bool = False,
        kernel_backend: Backend = "auto",
    ) -> None:
        super().__init__()
        self.count_padding = count_padding
        self.fusion = TrilinearFusion(dims, dropout)
        self.layers = cross_attention_stack(num_layers, dims, heads, ffn_dims, dropout, kernel_backend)
        self.clip_sentence_loss = build_part(clip_sentence_loss, "ClipSentenceLoss")
        self.contrastive_loss = build_part(contrastive_loss, "VideoSentenceContrastiveLoss")

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
        position = clips_position.index_select(0, pair_video)
        mask = words_mask.index_select(0, pair_query)
        aligned = self.fusion(
            clips.index_select(0, pair_video),
            clips_mask.index_select(0, pair_video),
            words.index_select(0, pair_query),
            mask,
        )
        for layer in self.layers:
            aligned = layer(aligned, words, words, mask, pair_query, position)
        return AlignerOutput(aligned, words, words_mask, extra={"clips": clips, "clips_mask": clips_mask})

    def loss(self, output: AlignerOutput, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Computes the losses between the projected clips and words; see `BaseAligner.loss`."""
        clips, clips_mask = output.extra["clips"].float(), output.extra["clips_mask"]
        words, words_mask = output.words.float(), output.words_mask
        counted_clips, counted_words = clips_mask, words_mask
        if self.count_padding:
            counted_clips, counted_words = torch.ones_like(clips_mask), torch.ones_like(words_mask)
        query_video = batch["query_video"]
        return {
            "loss_clip_sentence": self.clip_sentence_loss(
                clips.index_select(0, query_video),
                clips_mask.index_select(0, query_video),
                words,
                words_mask,
                batch["segment_mask"],
                counted_clips.index_select(0, query_video),
            ),
            "loss_video_sentence": self.contrastive_loss(
                masked_mean(clips, counted_clips).index_select(0, query_video),
                masked_mean(words, counted_words),
                query_video,
            ),
        }
