# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The grounder: projections, aligner, encoder, decoder, heads and losses, each chosen by config."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mesm_plugin.kernels.arguments import autocasting
from mesm_plugin.models.aligners import AlignerOutput
from mesm_plugin.models.full_precision import at_least_float32
from mesm_plugin.models.grounders.post_process import MomentPostProcess
from mesm_plugin.models.grounders.query_chunks import query_chunks
from mesm_plugin.models.heads import FOREGROUND, MomentHead
from mesm_plugin.models.layers import InputProjection, clip_position
from mesm_plugin.models.parts import DEFAULTS, ConfigType, build_grounder_part
from mesm_plugin.registry import MODELS
from mesm_plugin.structures import GroundingDataSample, cxw_to_xx


@dataclass
class ProjectedFeatures:
    """The features of a batch in the common space, each once.

    Attributes:
        clips: (V, Lv, D).
        clips_position: (V, Lv, D).
        clips_mask: (V, Lv) bool, True = valid.
        words: (Q, Lw, D).
        words_mask: (Q, Lw) bool, True = valid.
    """

    clips: Tensor
    clips_position: Tensor
    clips_mask: Tensor
    words: Tensor
    words_mask: Tensor


@dataclass
class EncodedPairs:
    """What the encoder made of the aligned pairs; the first Q of the P pairs are the positive ones.

    Attributes:
        memory: (P, L, D), Lv clips, then the aligner's context where there is any.
        position: (P, L, D).
        mask: (P, L) bool, True = valid.
        num_clips: Lv.
        token: (P, D) global token, or None from an encoder without one.
    """

    memory: Tensor
    position: Tensor
    mask: Tensor
    num_clips: int
    token: Tensor | None

    @property
    def clips(self) -> Tensor:
        """(P, Lv, D) encoded clips."""
        return self.memory[:, : self.num_clips]


@dataclass
class GrounderOutput:
    """What the network computes from a batch.

    Attributes:
        logits: (layers, Q, N, 2), foreground first; the last decoder layer comes last.
        spans: (layers, Q, N, 2) normalised centre and width.
        saliency: (P, Lv) logits of the clips; the first Q rows are those of the positive pairs.
        projected: What the aligner was given.
        aligned: What the aligner returned.
        encoded: What the encoder returned.
        extra: Tensors that a grounder's own losses need.
    """

    logits: Tensor
    spans: Tensor
    saliency: Tensor
    projected: ProjectedFeatures
    aligned: AlignerOutput
    encoded: EncodedPairs
    extra: dict[str, Tensor] = field(default_factory=dict)


@MODELS.register_module()
class DETRGrounder(BaseModel):
    """DETR-style video grounder with an exchangeable aligner (MESM, Fig. 2).

    Projections, positions and what is common to the queries of a video are computed once per video, text once per
    query, alignment and encoding once per (video, query) pair, and moments for the positive pairs only. Negative pairs
    pass through the network only if the aligner or a loss of clip scores uses them.

    Each part is a config. One without `type` adds arguments to the part that the class has by default
    (`default_parts`); one with `type` replaces it. Parts that take `dims`, `heads`, `ffn_dims` or `dropout` get the
    grounder's; an encoder that takes `learned_token` is told whether the aligner gives no token.

    Args:
        video_dims: Dv, channels of the clip features, the two temporal endpoint channels included.
        text_dims: Dt, channels of the word features.
        aligner: Config of the aligner.
        encoder: Config of the encoder.
        decoder: Config of the decoder.
        saliency_head: Config of the head that scores clips.
        matcher: Config of the matcher.
        span_loss: Config of the loss of span coordinates.
        giou_loss: Config of the loss of span overlap.
        label_loss: Config of the foreground loss.
        saliency_losses: Configs of the losses of clip scores, each with its `type`; empty = no encoder loss (Table 5),
            None = those that the class has by default.
        post_process: Arguments of `MomentPostProcess`.
        dims: D.
        heads: Attention heads.
        ffn_dims: Channels inside the FFNs.
        dropout: Dropout of the transformer parts.
        projection_layers: Blocks of each input projection.
        projection_dropout: Dropout inside the input projections.
        auxiliary_loss: Whether the earlier decoder layers have losses too.
        max_pair_clips: Most clips of all pairs that `predict` has in the network at once, padding included. A batch
            with more goes through in chunks of its queries, its videos and words projected once, if the aligner says
            that queries do not depend on one another (`BaseAligner.independent_queries`).
        data_preprocessor: Config of MMEngine's data preprocessor.
        init_cfg: MMEngine's initialisation config.

    Raises:
        ValueError: A part is configured with another `dims` than the grounder, or `max_pair_clips` is not positive.
    """

    default_parts: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "aligner": {"type": "MESMAligner"},
            "encoder": {"type": "GlobalTokenEncoder"},
            "decoder": {"type": "DABDecoder"},
            "saliency_head": {"type": "GlobalTokenSaliencyHead"},
            "matcher": {"type": "MomentMatcher"},
            "span_loss": {"type": "SpanL1Loss"},
            "giou_loss": {"type": "SpanGIoULoss"},
            "label_loss": {"type": "LabelLoss"},
            "saliency_losses": ({"type": "RankContrastiveLoss"}, {"type": "NegativePairLoss"}),
        }
    )
    """Config of each part that a config does not set."""
    parts_used_in_pieces: ClassVar[tuple[str, ...]] = ()
    """Parts of which the model calls pieces, before or without calling the whole: `FullyShardedRunner` has to know."""

    def __init__(
        self,
        video_dims: int,
        text_dims: int,
        aligner: ConfigType = DEFAULTS,
        encoder: ConfigType = DEFAULTS,
        decoder: ConfigType = DEFAULTS,
        saliency_head: ConfigType = DEFAULTS,
        matcher: ConfigType = DEFAULTS,
        span_loss: ConfigType = DEFAULTS,
        giou_loss: ConfigType = DEFAULTS,
        label_loss: ConfigType = DEFAULTS,
        saliency_losses: Sequence[ConfigType] | None = None,
        post_process: ConfigType = DEFAULTS,
        dims: int = 256,
        heads: int = 8,
        ffn_dims: int = 1024,
        dropout: float = 0.1,
        projection_layers: int = 2,
        projection_dropout: float = 0.5,
        auxiliary_loss: bool = True,
        max_pair_clips: int = 32768,
        data_preprocessor: ConfigType | None = None,
        init_cfg: ConfigType | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if max_pair_clips < 1:
            raise ValueError(f"max_pair_clips is {max_pair_clips}, expected at least 1")
        self.max_pair_clips = max_pair_clips
        shared: dict[str, Any] = {"dims": dims, "heads": heads, "ffn_dims": ffn_dims, "dropout": dropout}

        def build(part: str, config: ConfigType) -> Any:
            full = config if "type" in config else {**self.default_parts[part], **config}
            return build_grounder_part(part, full, shared, type(self).__name__)

        self.dims = dims
        self.video_projection = InputProjection(video_dims, dims, projection_layers, projection_dropout, "clip")
        self.text_projection = InputProjection(text_dims, dims, projection_layers, projection_dropout, "word")
        self.aligner = build("aligner", aligner)
        shared["learned_token"] = not getattr(self.aligner, "gives_token", False)
        self.encoder = build("encoder", encoder)
        self.decoder = build("decoder", decoder)
        self.moment_head = MomentHead(dims)
        self.saliency_head = build("saliency_head", saliency_head)
        self.matcher = build("matcher", matcher)
        self.span_loss = build("span_loss", span_loss)
        self.giou_loss = build("giou_loss", giou_loss)
        self.label_loss = build("label_loss", label_loss)
        if saliency_losses is None:
            saliency_losses = self.default_parts["saliency_losses"]
        self.saliency_losses = nn.ModuleList(MODELS.build(dict(config)) for config in saliency_losses)
        self.uses_negative_pairs = any(
            getattr(part, "uses_negative_pairs", False) for part in (self.aligner, *self.saliency_losses)
        )
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

    def ground(self, inputs: Mapping[str, Tensor], projected: ProjectedFeatures | None = None) -> GrounderOutput:
        """Computes moments and clip scores of a batch, from what `project` returned where it has been called."""
        if not self.uses_negative_pairs:
            queries = len(inputs["query_video"])
            inputs = {**inputs, **{name: inputs[name][:queries] for name in ("pair_video", "pair_query")}}
        if projected is None:
            projected = self.project(inputs)
        aligned = self.align(projected, inputs)
        encoded = self.encode(projected, aligned, inputs)
        extra: dict[str, Tensor] = {}
        logits, spans = self.decode(projected, aligned, encoded, inputs, extra)
        saliency = self.saliency_head(encoded.clips, encoded.token)
        return GrounderOutput(logits, spans, saliency, projected, aligned, encoded, extra)

    def project(self, inputs: Mapping[str, Tensor]) -> ProjectedFeatures:
        """Brings clips and words into the common space, every video and every query once."""
        video_mask = inputs["video_mask"]
        return ProjectedFeatures(
            clips=self.video_projection(inputs["video"]),
            clips_position=clip_position(video_mask, self.dims),
            clips_mask=video_mask,
            words=self.text_projection(inputs["words"]),
            words_mask=inputs["words_mask"],
        )

    def align(self, projected: ProjectedFeatures, inputs: Mapping[str, Tensor]) -> AlignerOutput:
        """Aligns the clips of each pair to its words.

        Raises:
            TypeError, ValueError: The aligner returned something else than `AlignerOutput` says.
        """
        aligned = self.aligner(
            projected.clips,
            projected.clips_position,
            projected.clips_mask,
            projected.words,
            projected.words_mask,
            inputs,
            project_words=self.text_projection,
        )
        name = type(self.aligner).__name__
        if not isinstance(aligned, AlignerOutput):
            raise TypeError(f"{name} returned a {type(aligned).__name__}, expected an AlignerOutput")
        pairs, queries = len(inputs["pair_video"]), len(inputs["query_video"])
        aligned.check(pairs, queries, projected.clips.shape[1], self.dims, name)
        return aligned

    def encode(
        self, projected: ProjectedFeatures, aligned: AlignerOutput, inputs: Mapping[str, Tensor]
    ) -> EncodedPairs:
        """Encodes the aligned pairs, context included."""
        pair_video = inputs["pair_video"]
        memory = aligned.clips
        num_clips = memory.shape[1]
        position = projected.clips_position.index_select(0, pair_video)
        mask = projected.clips_mask.index_select(0, pair_video)
        if aligned.context is not None and aligned.context_mask is not None:
            context_position = aligned.context_position
            if context_position is None:
                context_position = torch.zeros_like(aligned.context)
            memory = torch.cat((memory, aligned.context), dim=1)
            position = torch.cat((position, context_position), dim=1)
            mask = torch.cat((mask, aligned.context_mask), dim=1)
        memory, token = self.encoder(memory, position, mask, aligned.token)
        return EncodedPairs(memory, position, mask, num_clips, token)

    def decode(
        self,
        projected: ProjectedFeatures,
        aligned: AlignerOutput,
        encoded: EncodedPairs,
        inputs: Mapping[str, Tensor],
        extra: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Predicts moments of the positive pairs.

        Args:
            projected, aligned, encoded, inputs: What the steps before were given and returned.
            extra: Takes the tensors that a grounder's own losses need.

        Returns:
            Logits (layers, Q, N, 2), foreground first, and spans (layers, Q, N, 2), normalised centre and width.
        """
        return self.moment_head(*self.decoder(*self.decoder_inputs(projected, aligned, encoded, inputs)))

    def decoder_inputs(
        self,
        projected: ProjectedFeatures,
        aligned: AlignerOutput,
        encoded: EncodedPairs,
        inputs: Mapping[str, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """The arguments that every decoder takes (see `DABDecoder.forward`)."""
        query_video = inputs["query_video"]
        queries = len(query_video)
        # Without context the positions are those of the videos, and the decoder projects them once per video.
        position: Tensor = projected.clips_position
        index: Tensor | None = query_video
        if aligned.context is not None:
            position, index = encoded.position[:queries], None
        return encoded.memory[:queries], position, index, encoded.mask[:queries]

    def loss(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Computes all weighted losses of a batch; their sum is Eq. 8. Under autocast they are float32 all the same."""
        output = self.ground(inputs)
        if not autocasting(output.logits.device):
            return self.loss_of(output, inputs)
        with torch.autocast(output.logits.device.type, enabled=False):
            return self.loss_of(at_least_float32(output), inputs)

    def loss_of(self, output: GrounderOutput, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Computes all weighted losses from what `ground` returned for the batch."""
        first = 0 if self.auxiliary_loss else len(output.logits) - 1
        losses = self._moment_losses(output.logits[first:], output.spans[first:], inputs)
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
        """The losses of some decoder layers, each by its name; all layers are matched and compared at once."""
        layers, moments = len(logits), inputs["moments"]
        assignment, matched = (
            x.unflatten(0, (layers, -1))
            for x in self.matcher(
                logits.flatten(0, 1),
                spans.flatten(0, 1),
                moments.repeat(layers, 1, 1),
                inputs["moments_mask"].repeat(layers, 1),
            )
        )
        matched_spans = spans.float().gather(2, assignment[..., None].expand(-1, -1, -1, 2))
        # `one_hot` looks at the numbers of CPU tensors.
        spans_in_order = torch.arange(logits.shape[2], device=logits.device)
        foreground = ((assignment[..., None] == spans_in_order) & matched[..., None]).any(dim=2)
        by_layer = {
            "span": self.span_loss(matched_spans, moments, matched),
            "giou": self.giou_loss(matched_spans, moments, matched),
            "label": self.label_loss(logits, foreground),
        }
        suffixes = [f"_{i}" for i in range(layers - 1)] + [""]
        return {
            f"loss_{name}{suffix}": value
            for name, values in by_layer.items()
            for suffix, value in zip(suffixes, values.unbind(), strict=True)
        }

    @torch.no_grad()
    def predict(
        self, inputs: Mapping[str, Tensor], data_samples: list[GroundingDataSample]
    ) -> list[GroundingDataSample]:
        """Predicts moments and clip scores, and fills them into the data samples."""
        pair_clips = len(inputs["query_video"]) * inputs["video_mask"].shape[1]
        if pair_clips > self.max_pair_clips and getattr(self.aligner, "independent_queries", False):
            scores = self._score_chunks(inputs)
        else:
            scores = self.score_moments(inputs)
        # One copy, so that the host waits once.
        flat = torch.cat([x.flatten() for x in scores]).cpu().split([x.numel() for x in scores])
        moments, saliency = (x.reshape(of.shape).numpy() for x, of in zip(flat, scores, strict=True))
        begin = 0
        for sample in data_samples:
            rows = range(begin, begin + len(sample.qids))
            sample.pred_moments = [self.post_process(moments[row], sample.duration) for row in rows]
            sample.pred_saliency = [saliency[row, : sample.num_clips].copy() for row in rows]
            begin = rows.stop
        return data_samples

    def _score_chunks(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As `score_moments`, which may be compiled for whole batches, but in chunks of queries."""
        projected = self.project(inputs)
        moments, saliency = [], []
        for rows, chunk in query_chunks(inputs, self.max_pair_clips):
            words = replace(projected, words=projected.words[rows], words_mask=projected.words_mask[rows])
            scores = _scores_of(self.ground(chunk, words), len(chunk["query_video"]))
            moments.append(scores[0])
            saliency.append(scores[1])
        return torch.cat(moments), torch.cat(saliency)

    def score_moments(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The part of `predict` that the device does.

        Returns:
            (Q, N, 3) float32 normalised start and end, and score; (Q, Lv) float32 logits of the clips.
        """
        return _scores_of(self.ground(inputs), len(inputs["query_video"]))


def _scores_of(output: GrounderOutput, queries: int) -> tuple[Tensor, Tensor]:
    scores = output.logits[-1].float().softmax(dim=-1)[..., FOREGROUND]
    moments = torch.cat((cxw_to_xx(output.spans[-1].float()), scores[..., None]), dim=-1)
    return moments, output.saliency[:queries].float()
