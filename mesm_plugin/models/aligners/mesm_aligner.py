# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""MESM's aligner: FW-MESM, SS-MESM and the modality aligner."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from mesm_plugin.kernels import Backend
from mesm_plugin.models.aligners.base_aligner import AlignerOutput, BaseAligner
from mesm_plugin.models.layers import LearnedWordPosition, cross_attention_stack, masked_mean
from mesm_plugin.models.parts import DEFAULTS, ConfigType, build_part
from mesm_plugin.registry import MODELS


@MODELS.register_module()
class MESMAligner(BaseAligner):
    """Enhances the video at frame-word level and the query at segment-sentence level, then aligns them (Sec. 3.3).

    Args:
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the FFNs.
        dropout: Dropout of attention weights and updates.
        num_layers: Layers of the modality aligner.
        frame_word: Config of FW-MESM, by default of type `FrameWordEnhancer`; None = off.
        segment_sentence: Config of SS-MESM, by default of type `SegmentSentenceEnhancer`; None = off.
        word_position: Arguments of `LearnedWordPosition`, None = words have no position.
        masked_word_loss: Config of the loss of FW-MESM (Eq. 2), by default of type `MaskedWordLoss`.
        contrastive_loss: Config of the loss of SS-MESM (Eq. 5), by default of type `IoUContrastiveLoss`.
        kernel_backend: Implementation of cross-attention and contrastive loss: "auto" = Triton on GPUs, "triton" or
            "reference".
    """

    def __init__(
        self,
        dims: int = 256,
        heads: int = 8,
        ffn_dims: int = 1024,
        dropout: float = 0.1,
        num_layers: int = 2,
        frame_word: ConfigType | None = DEFAULTS,
        segment_sentence: ConfigType | None = DEFAULTS,
        word_position: ConfigType | None = None,
        masked_word_loss: ConfigType = DEFAULTS,
        contrastive_loss: ConfigType = DEFAULTS,
        kernel_backend: Backend = "auto",
    ) -> None:
        super().__init__()
        # Components that know nothing of backends can take part as long as none is chosen.
        backend = {} if kernel_backend == "auto" else {"kernel_backend": kernel_backend}
        shared = {"dims": dims, "heads": heads, "ffn_dims": ffn_dims, "dropout": dropout, **backend}
        self.frame_word: nn.Module | None = None
        self.segment_sentence: nn.Module | None = None
        if frame_word is not None:
            self.frame_word = build_part(frame_word, "FrameWordEnhancer", **shared)
            self.masked_word_loss = build_part(masked_word_loss, "MaskedWordLoss")
        if segment_sentence is not None:
            self.segment_sentence = build_part(segment_sentence, "SegmentSentenceEnhancer", **shared)
            self.contrastive_loss = build_part(contrastive_loss, "IoUContrastiveLoss", **backend)
        self.independent_queries = all(
            part is None or getattr(part, "independent_queries", False)
            for part in (self.frame_word, self.segment_sentence)
        )
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
        """Aligns clips to words; see `BaseAligner.forward`.

        In `extra`: `projected_clips` (V, Lv, D); with FW-MESM `enhanced_clips` (P, Lv, D) and, if words were masked,
        `word_logits` (Q, Lw, classes).
        """
        pair_video, pair_query = batch["pair_video"], batch["pair_query"]
        extra = {"projected_clips": clips}
        expanded, expanded_mask = words, words_mask
        if self.segment_sentence is not None:
            token = self.segment_sentence(clips, words, words_mask, batch)
            expanded = torch.cat((token[:, None], words), dim=1)
            expanded_mask = torch.cat((words_mask.new_ones(len(words_mask), 1), words_mask), dim=1)

        position = expanded_position = None
        if self.word_position is not None:
            position, expanded_position = self.word_position(words), self.word_position(expanded)

        if self.frame_word is not None:
            words_key = words_key_index = None
            if position is not None and expanded_position is not None and self.segment_sentence is not None:
                # As in the released code, the words of a negative pair are placed one further than those of a positive
                # pair, behind the generated token.
                queries = len(words)
                words_key = torch.cat((words + position, words + expanded_position[:, 1:]))
                words_key_index = torch.cat((pair_query[:queries], pair_query[queries:] + queries))
            enhanced, word_logits = self.frame_word(
                clips,
                clips_position,
                clips_mask,
                words,
                words_mask,
                batch,
                words_position=position,
                words_key=words_key,
                words_key_index=words_key_index,
                project_words=project_words,
            )
            extra["enhanced_clips"] = enhanced
            if word_logits is not None:
                extra["word_logits"] = word_logits
        else:
            enhanced = clips.index_select(0, pair_video)

        key = expanded if expanded_position is None else expanded + expanded_position
        mask = expanded_mask.index_select(0, pair_query)
        clips_position = clips_position.index_select(0, pair_video)
        rows_mask = clips_mask.index_select(0, pair_video)
        for layer in self.layers:
            enhanced = layer(enhanced, key, expanded, mask, pair_query, clips_position, rows_mask)
        return AlignerOutput(enhanced, expanded, expanded_mask, extra)

    def loss(self, output: AlignerOutput, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Computes the losses of the two enhancements.

        Args:
            output: What `forward` returned.
            batch: With `masked_words`: `words_label`, `words_mask`; for SS-MESM: `moments` (Q, M, 2),
                `moments_mask` (Q, M), `segment_mask` (Q, Lv), `source`, `query_video`.

        Returns:
            `loss_masked_word` (Eq. 2) and `loss_contrastive` (Eq. 5), weighted, where their parts are on.

        Raises:
            ValueError: Words were masked, but their classes are missing.
        """
        losses = {}
        if "word_logits" in output.extra:
            if "words_label" not in batch:
                raise ValueError(
                    "FW-MESM restores masked words, but the batch has no words_label: give the text encoder a "
                    "vocabulary, or switch FW-MESM off with frame_word=None"
                )
            losses["loss_masked_word"] = self.masked_word_loss(
                output.extra["word_logits"], batch["words_label"], batch["words_mask"]
            )
        if self.segment_sentence is not None:
            clips = output.extra["projected_clips"].index_select(0, batch["query_video"])
            segment = masked_mean(clips, batch["segment_mask"])
            valid = batch["moments_mask"][..., None]
            start = batch["moments"].masked_fill(~valid, torch.inf).amin(dim=(1, 2))
            end = batch["moments"].masked_fill(~valid, -torch.inf).amax(dim=(1, 2))
            losses["loss_contrastive"] = self.contrastive_loss(
                output.words,
                output.words_mask,
                segment,
                torch.stack((start, end), dim=-1),
                batch["source"].index_select(0, batch["query_video"]),
            )
        return losses
