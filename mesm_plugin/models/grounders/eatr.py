# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""EaTR: object queries that start from the events of the video."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mesm_plugin.models.aligners import AlignerOutput
from mesm_plugin.models.grounders.detr_grounder import (
    DETRGrounder,
    EncodedPairs,
    GrounderOutput,
    ProjectedFeatures,
)
from mesm_plugin.models.grounders.moment_detr import MomentDETR
from mesm_plugin.models.layers import EventDecoder, init_zeros
from mesm_plugin.registry import MODELS


@MODELS.register_module()
class EaTR(DETRGrounder):
    """EaTR (Jang et al., ICCV 2023): slots find the events of the video, the query picks and refines them.

    Arguments as `DETRGrounder`, with the authors' parts as defaults.

    Args:
        event_weight: Weight of the losses of event spans, as a multiple of those of moments.

    Raises:
        ValueError: The decoder is no `EventDecoder`.
    """

    default_parts = MappingProxyType(
        {
            **MomentDETR.default_parts,
            "encoder": {**MomentDETR.default_parts["encoder"], "skips_padding": False},
            "decoder": {"type": "EventDecoder"},
        }
    )
    # `find_events` comes before the decoder, whose layers call the head of the spans.
    parts_used_in_pieces = ("decoder", "moment_head")

    def __init__(self, *args: Any, event_weight: float = 3.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.decoder, EventDecoder):
            raise ValueError(
                f"EaTR's decoder must find events, got {type(self.decoder).__name__}: leave the decoder's type out, or "
                "take a DETRGrounder"
            )
        self.event_weight = event_weight
        # Moments are the anchors at first.
        init_zeros(self.moment_head.span[-1])

    def decode(
        self,
        projected: ProjectedFeatures,
        aligned: AlignerOutput,
        encoded: EncodedPairs,
        inputs: Mapping[str, Tensor],
        extra: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """See `DETRGrounder.decode`; `extra` takes `event_spans` (V, N, 2), normalised centre and width."""
        query_video = inputs["query_video"]
        slots, anchors, extra["event_spans"] = self.decoder.find_events(
            projected.clips, projected.clips_position, projected.clips_mask
        )
        words = projected.words
        if not self.decoder.count_padding:
            words = words.masked_fill(~projected.words_mask[..., None], torch.finfo(words.dtype).min)
        states, anchors = self.decoder(
            *self.decoder_inputs(projected, aligned, encoded, inputs),
            slots.index_select(0, query_video),
            anchors.index_select(0, query_video),
            words.amax(dim=1),
            self.moment_head.span,
        )
        return self.moment_head(states, anchors)

    def loss_of(self, output: GrounderOutput, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `DETRGrounder.loss_of`; adds the losses of event spans."""
        losses = super().loss_of(output, inputs)
        spans = output.extra["event_spans"].float()
        events, mask = self.events_of(inputs)
        # Events have no class: equal logits take it out of the matching.
        assignment, matched = self.matcher(torch.zeros_like(spans), spans, events, mask)
        spans = spans.gather(1, assignment[..., None].expand(-1, -1, 2))
        spans, events, matched = (x.index_select(0, inputs["query_video"]) for x in (spans, events, matched))
        losses["loss_event_span"] = self.event_weight * self.span_loss(spans, events, matched)
        losses["loss_event_giou"] = self.event_weight * self.giou_loss(spans, events, matched)
        return losses

    def events_of(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The targets of the events: `pseudo_events` of the batch's videos."""
        return pseudo_events(inputs["video"], inputs["video_mask"], self.decoder.count_padding)


def pseudo_events(video: Tensor, mask: Tensor, count_padding: bool = False) -> tuple[Tensor, Tensor]:
    """Cuts videos into events where what is seen changes most (temporal self-similarity with a contrast kernel).

    A clip is a boundary if the two clips before it and the two behind it differ by at least the mean over the video,
    and by more than at the clips beside it; the first and the last clip always are.

    Args:
        video: (V, Lv, Dv) features.
        mask: (V, Lv) bool, True = valid.
        count_padding: Whether the mean is over padded clips, too.

    Returns:
        (V, M, 2) normalised start and end of the events in order, and (V, M) bool, True = an event, False = padding;
        M = max(1, Lv // 2), the most that there can be.
    """
    length = video.shape[1]
    clips = F.pad(F.normalize(video.float(), dim=2).masked_fill(~mask[..., None], 0.0), (0, 0, 2, 2))
    # The contrast kernel over similarities of clips is the distance of the sums of the two on either side.
    difference = clips[:, :length] + clips[:, 1 : length + 1] - clips[:, 3 : length + 3] - clips[:, 4:]
    score = difference.square().sum(dim=2)
    count = mask.sum(dim=1, keepdim=True)
    mean = score.mean(dim=1, keepdim=True)
    if not count_padding:
        mean = score.masked_fill(~mask, 0.0).sum(dim=1, keepdim=True) / count
    place = torch.arange(length, device=mask.device)
    is_end = (place == 0) | (place == count - 1)
    around = F.pad(score.masked_fill(is_end, torch.inf), (1, 1), value=-torch.inf)
    is_peak = (score > around[:, :-2]) & (score >= around[:, 2:]) & (score >= mean)
    is_boundary = (is_peak | is_end) & mask
    last = torch.where(is_boundary, place, 0).cummax(dim=1).values
    events = torch.stack((last.roll(1, dims=1), place.expand_as(last)), dim=2) / count[..., None]
    is_event = is_boundary & (place > 0)
    order = is_event.int().argsort(dim=1, descending=True, stable=True)[:, : max(1, length // 2)]
    return events.gather(1, order[..., None].expand(-1, -1, 2)), is_event.gather(1, order)
