# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The grounder: projections, aligner, encoder, decoder, heads and losses, each chosen by config."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from mesm_plugin.models.aligners import AlignerOutput
from mesm_plugin.models.grounders.post_process import MomentPostProcess
from mesm_plugin.models.heads import FOREGROUND, MomentHead
from mesm_plugin.models.layers import InputProjection, clip_position
from mesm_plugin.registry import MODELS
from mesm_plugin.structures import GroundingDataSample, cxw_to_xx

Config = Mapping[str, Any]


@dataclass
class GrounderOutput:
    """What the network computes from a batch.

    Attributes:
        logits: (layers, Q, N, 2), foreground first; the last decoder layer comes last.
        spans: (layers, Q, N, 2) normalised centre and width.
        saliency: (P, Lv) logits of the clips; the first Q rows are those of the positive pairs.
        aligned: What the aligner returned.
    """

    logits: Tensor
    spans: Tensor
    saliency: Tensor
    aligned: AlignerOutput


@MODELS.register_module()
class DETRGrounder(BaseModel):
    """DETR-style video grounder with an exchangeable aligner (MESM, Fig. 2).

    Projections, positions and what is common to the queries of a video are computed once per video, text once per
    query, alignment and encoding once per (video, query) pair, and moments for the positive pairs only.

    Args:
        video_dims: Dv, channels of the clip features, the two temporal endpoint channels included.
        text_dims: Dt, channels of the word features.
        aligner: Config of the aligner; built with `dims`, `heads`, `ffn_dims` and `dropout` as defaults.
        encoder: Config of the encoder, built with the same defaults.
        decoder: Config of the decoder, built with the same defaults.
        saliency_head: Config of the head that scores clips, built with `dims`.
        matcher: Config of the matcher.
        span_loss: Config of the loss of span coordinates.
        giou_loss: Config of the loss of span overlap.
        label_loss: Config of the foreground loss.
        saliency_losses: Configs of the losses of clip scores; empty = no encoder loss (Table 5).
        post_process: Arguments of `MomentPostProcess`.
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the FFNs.
        dropout: Dropout of the transformer parts.
        projection_layers: Blocks of each input projection.
        projection_dropout: Dropout inside the input projections.
        auxiliary_loss: Whether the earlier decoder layers have losses too.
        data_preprocessor: Config of MMEngine's data preprocessor.
        init_cfg: MMEngine's initialisation config.
    """

    def __init__(
        self,
        video_dims: int,
        text_dims: int,
        aligner: Config,
        encoder: Config,
        decoder: Config,
        saliency_head: Config,
        matcher: Config,
        span_loss: Config,
        giou_loss: Config,
        label_loss: Config,
        saliency_losses: Sequence[Config],
        post_process: Config,
        dims: int = 256,
        heads: int = 8,
        ffn_dims: int = 1024,
        dropout: float = 0.1,
        projection_layers: int = 2,
        projection_dropout: float = 0.5,
        auxiliary_loss: bool = True,
        data_preprocessor: Config | None = None,
        init_cfg: Config | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        shared = {"dims": dims, "heads": heads, "ffn_dims": ffn_dims, "dropout": dropout}
        self.dims = dims
        self.video_projection = InputProjection(video_dims, dims, projection_layers, projection_dropout, "clip")
        self.text_projection = InputProjection(text_dims, dims, projection_layers, projection_dropout, "word")
        self.aligner = MODELS.build(dict(aligner), default_args=shared)
        self.encoder = MODELS.build(dict(encoder), default_args=shared)
        self.decoder = MODELS.build(dict(decoder), default_args=shared)
        self.moment_head = MomentHead(dims)
        self.saliency_head = MODELS.build(dict(saliency_head), default_args={"dims": dims})
        self.matcher = MODELS.build(dict(matcher))
        self.span_loss = MODELS.build(dict(span_loss))
        self.giou_loss = MODELS.build(dict(giou_loss))
        self.label_loss = MODELS.build(dict(label_loss))
        self.saliency_losses = nn.ModuleList(MODELS.build(dict(config)) for config in saliency_losses)
        self.auxiliary_loss = auxiliary_loss
        self.post_process = MomentPostProcess(**post_process)

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        data_samples: list[GroundingDataSample] | None = None,
        mode: Literal["loss", "predict", "tensor"] = "tensor",
    ) -> dict[str, Tensor] | list[GroundingDataSample] | GrounderOutput:
        """Runs the network in one of MMEngine's three modes.

        Args:
            inputs: The batch that `mesm_plugin.datasets.collate_grounding` describes.
            data_samples: One per video; needed to predict.
            mode: "loss" returns weighted losses by name, "predict" the data samples with `pred_moments` and
                `pred_saliency` filled in, "tensor" a `GrounderOutput`.

        Raises:
            ValueError: `mode` has an unknown value, or data samples are missing.
        """
        if mode == "loss":
            return self.loss(inputs)
        if mode == "predict":
            if data_samples is None:
                raise ValueError('mode="predict" needs data_samples, one per video')
            return self.predict(inputs, data_samples)
        if mode == "tensor":
            return self.ground(inputs)
        raise ValueError(f'mode must be "loss", "predict" or "tensor", got {mode!r}')

    def ground(self, inputs: Mapping[str, Tensor]) -> GrounderOutput:
        """Computes moments and clip scores of a batch."""
        video_mask, query_video, pair_video = inputs["video_mask"], inputs["query_video"], inputs["pair_video"]
        position = clip_position(video_mask, self.dims)
        aligned = self.aligner(
            self.video_projection(inputs["video"]),
            position,
            video_mask,
            self.text_projection(inputs["words"]),
            inputs["words_mask"],
            inputs,
            project_words=self.text_projection,
        )
        pair_position, pair_mask = position.index_select(0, pair_video), video_mask.index_select(0, pair_video)
        encoded, token = self.encoder(aligned.clips, pair_position, pair_mask)
        queries = len(query_video)
        states, anchors = self.decoder(encoded[:queries], position, query_video, pair_mask[:queries])
        logits, spans = self.moment_head(states, anchors)
        return GrounderOutput(logits, spans, self.saliency_head(encoded, token), aligned)

    def loss(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Computes all weighted losses of a batch; their sum is Eq. 8."""
        return self.loss_of(self.ground(inputs), inputs)

    def loss_of(self, output: GrounderOutput, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Computes all weighted losses from what `ground` returned for the batch."""
        losses: dict[str, Tensor] = {}
        last = len(output.logits) - 1
        for i in range(0 if self.auxiliary_loss else last, last + 1):
            suffix = "" if i == last else f"_{i}"
            for name, value in self._moment_losses(output.logits[i], output.spans[i], inputs).items():
                losses[f"loss_{name}{suffix}"] = value
        if self.saliency_losses:
            queries = len(inputs["query_video"])
            scores = output.saliency.float()
            negative = scores[queries:] if len(scores) > queries else None
            mask = inputs["video_mask"].index_select(0, inputs["query_video"])
            losses["loss_saliency"] = torch.stack(
                [loss(scores[:queries], negative, mask, inputs) for loss in self.saliency_losses]
            ).sum()
        losses.update(self.aligner.loss(output.aligned, inputs))
        return losses

    def _moment_losses(self, logits: Tensor, spans: Tensor, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        moments = inputs["moments"]
        assignment, matched = self.matcher(logits, spans, moments, inputs["moments_mask"])
        matched_spans = spans.float().gather(1, assignment[..., None].expand(-1, -1, 2))
        foreground = (F.one_hot(assignment, logits.shape[1]).bool() & matched[..., None]).any(dim=1)
        return {
            "span": self.span_loss(matched_spans, moments, matched),
            "giou": self.giou_loss(matched_spans, moments, matched),
            "label": self.label_loss(logits, foreground),
        }

    @torch.no_grad()
    def predict(
        self, inputs: Mapping[str, Tensor], data_samples: list[GroundingDataSample]
    ) -> list[GroundingDataSample]:
        """Predicts moments and clip scores, and fills them into the data samples."""
        output = self.ground(inputs)
        scores = output.logits[-1].float().softmax(dim=-1)[..., FOREGROUND]
        queries = len(inputs["query_video"])
        moments = torch.cat((cxw_to_xx(output.spans[-1].float()), scores[..., None]), dim=-1).cpu().numpy()
        saliency = output.saliency[:queries].float().cpu().numpy()
        begin = 0
        for sample in data_samples:
            rows = range(begin, begin + len(sample.qids))
            sample.pred_moments = [self.post_process(moments[row], sample.duration) for row in rows]
            sample.pred_saliency = [saliency[row, : sample.num_clips].copy() for row in rows]
            begin = rows.stop
        return data_samples
