# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""UVCOM: local and global exchange, object queries that start from the sentence."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from mesm_plugin.models.aligners import AlignerOutput
from mesm_plugin.models.grounders.detr_grounder import (
    DETRGrounder,
    EncodedPairs,
    GrounderOutput,
    ProjectedFeatures,
)
from mesm_plugin.models.grounders.qd_detr import QDDETR
from mesm_plugin.models.heads import SimilarityHead
from mesm_plugin.models.layers import ClipPooling, init_xavier_uniform, masked_mean
from mesm_plugin.models.parts import DEFAULTS, ConfigType, build_part
from mesm_plugin.registry import MODELS


@MODELS.register_module()
class UVCOM(DETRGrounder):
    """UVCOM (Xiao et al., CVPR 2024): prototypes of words guide the clips, the sentence starts the object queries.

    Arguments as `DETRGrounder`, with the authors' parts as defaults.

    Args:
        pooling_iterations: Rounds in which the sentence takes up clips before it starts the object queries.
        mlp_dims: Channels inside the perceptrons of sentence and similarities.
        similarity_loss: Config of the loss of similarities, by default of type `VideoSentenceLoss`; None = none.
        count_padding: Whether padded words and clips count in the sentence, and padded clips in the loss of
            similarities, as in the authors' code. Predictions then depend on the amount of padding.
    """

    default_parts = MappingProxyType(
        {
            **QDDETR.default_parts,
            "encoder": {**QDDETR.default_parts["encoder"], "skips_padding": False},
            "aligner": {"type": "UVCOMAligner"},
            "decoder": {
                "type": "DABDecoder",
                "num_queries": 30,
                "anchors": "normal",
                "learned_state": True,
                "refined_anchors": True,
            },
        }
    )

    def __init__(
        self,
        *args: Any,
        pooling_iterations: int = 5,
        mlp_dims: int = 1024,
        similarity_loss: ConfigType | None = DEFAULTS,
        count_padding: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.count_padding = count_padding
        self.sentence_projection = nn.Sequential(nn.Linear(self.dims, self.dims), nn.LayerNorm(self.dims))
        self.clip_pooling = ClipPooling(self.dims, pooling_iterations, mlp_dims)
        parts: list[nn.Module] = [self.sentence_projection, self.clip_pooling]
        self.similarity_loss: nn.Module | None = None
        if similarity_loss is not None:
            self.similarity_head = SimilarityHead(self.dims, mlp_dims)
            parts.append(self.similarity_head)
            self.similarity_loss = build_part(similarity_loss, "VideoSentenceLoss")
        for part in parts:
            init_xavier_uniform(part)

    def decode(
        self,
        projected: ProjectedFeatures,
        aligned: AlignerOutput,
        encoded: EncodedPairs,
        inputs: Mapping[str, Tensor],
        extra: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """See `DETRGrounder.decode`.

        In training, `extra` takes `video_sentence` (Q, Q) and `clip_sentence` (Q, Lv), which `VideoSentenceLoss`
        describes.
        """
        queries = len(inputs["query_video"])
        clips, clips_mask = encoded.clips[:queries], encoded.mask[:queries, : encoded.num_clips]
        words_mask = aligned.words_mask
        if self.count_padding:
            clips_mask, words_mask = torch.ones_like(clips_mask), torch.ones_like(words_mask)
        sentence = masked_mean(self.sentence_projection(aligned.words), words_mask)
        if self.similarity_loss is not None and "hinge_positive" in inputs:  # only training batches have it
            video = masked_mean(clips, clips_mask) if encoded.token is None else encoded.token[:queries]
            extra["video_sentence"], extra["clip_sentence"] = self.similarity_head(
                video, aligned.clips[:queries], sentence
            )
        states, anchors = self.decoder(
            *self.decoder_inputs(projected, aligned, encoded, inputs),
            state=self.clip_pooling(sentence, clips, clips_mask),
        )
        return self.moment_head(states, anchors)

    def loss_of(self, output: GrounderOutput, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `DETRGrounder.loss_of`; adds the loss of similarities."""
        losses = super().loss_of(output, inputs)
        if self.similarity_loss is not None:
            clips_mask = inputs["video_mask"].index_select(0, inputs["query_video"])
            losses["loss_similarity"] = self.similarity_loss(
                output.extra["video_sentence"],
                output.extra["clip_sentence"],
                inputs["segment_mask"],
                torch.ones_like(clips_mask) if self.count_padding else clips_mask,
            )
        return losses
