# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""TR-DETR: clip scores and moments help each other."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mesm_plugin.kernels.arguments import autocasting
from mesm_plugin.models.aligners import AlignerOutput
from mesm_plugin.models.grounders.detr_grounder import (
    DETRGrounder,
    EncodedPairs,
    GrounderOutput,
    ProjectedFeatures,
)
from mesm_plugin.models.heads import FOREGROUND
from mesm_plugin.registry import MODELS
from mesm_plugin.structures import cxw_to_xx


@MODELS.register_module()
class TRDETR(DETRGrounder):
    """TR-DETR (Sun et al., AAAI 2024): clip scores steer the encoder, the best moment refines the clip scores.

    Arguments as `DETRGrounder`, with the authors' parts as defaults.

    Args:
        count_padding: Whether padding takes part as in the peer's code: padded clips in the weights of the clips, and
            the padded length as that of the video where the best moment is read. Predictions then depend on the amount
            of padding.
    """

    default_parts = MappingProxyType(
        {
            **DETRGrounder.default_parts,
            "aligner": {"type": "TRDETRAligner"},
            "encoder": {"type": "DETREncoder", "activation": "prelu", "skips_padding": False},
            "decoder": {"type": "DABDecoder", "anchors": "normal"},
            "saliency_head": {"type": "SummedSaliencyHead"},
            "label_loss": {"type": "FocalLabelLoss"},
            "saliency_losses": (
                {"type": "SaliencyHingeLoss"},
                {"type": "RankContrastiveLoss", "negative_pairs": False},
            ),
        }
    )

    def __init__(self, *args: Any, count_padding: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.count_padding = count_padding
        self.moment_reader = nn.GRU(self.dims, self.dims, batch_first=True)

    def encode(
        self, projected: ProjectedFeatures, aligned: AlignerOutput, inputs: Mapping[str, Tensor]
    ) -> EncodedPairs:
        """Encodes twice, the second time with the aligned clips added by their scores."""
        encoded = super().encode(projected, aligned, inputs)
        scores = self.saliency_head(encoded.clips, encoded.token)
        if not self.count_padding:
            padding = ~encoded.mask[:, : encoded.num_clips]
            scores = scores.masked_fill(padding, torch.finfo(scores.dtype).min)
        weighted = aligned.clips * scores.softmax(dim=1)[..., None]
        memory = encoded.memory + F.pad(weighted, (0, 0, 0, encoded.memory.shape[1] - encoded.num_clips))
        memory, token = self.encoder(memory, encoded.position, encoded.mask, encoded.token)
        return replace(encoded, memory=memory, token=token)

    def ground(self, inputs: Mapping[str, Tensor], projected: ProjectedFeatures | None = None) -> GrounderOutput:
        """See `DETRGrounder.ground`; clip scores of the positive pairs are refined by their best moments."""
        output = super().ground(inputs, projected)
        query_video = inputs["query_video"]
        queries = len(query_video)
        clips = output.projected.clips.index_select(0, query_video)
        mask = output.projected.clips_mask
        count = (torch.ones_like(mask) if self.count_padding else mask).sum(dim=1).index_select(0, query_video)
        moment = self.read_moment(clips, count, *self.best_moment(output.logits[-1], output.spans[-1], count))
        encoded = output.encoded.clips[:queries]
        likeness = clips @ moment[..., None]
        token = None if output.encoded.token is None else output.encoded.token[:queries]
        refined = self.saliency_head(encoded + encoded * likeness, token)
        output.saliency = torch.cat((refined, output.saliency[queries:]))
        return output

    def best_moment(self, logits: Tensor, spans: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """Finds the clips that the best moment begins and ends in.

        Args:
            logits: (Q, N, 2), foreground first.
            spans: (Q, N, 2) normalised centre and width.
            count: (Q,) clips of each query's video.

        Returns:
            (Q,) int64 number of the first and of the last clip.
        """
        best = logits.float().softmax(dim=-1)[..., FOREGROUND].argmax(dim=1)
        span = spans.detach().float().gather(1, best[:, None, None].expand(-1, 1, 2))[:, 0]
        first, last = (cxw_to_xx(span) * count[:, None]).floor().long().unbind(dim=1)
        return first.clamp(min=0), torch.minimum(last, count - 1)

    def read_moment(self, clips: Tensor, count: Tensor, first: Tensor, last: Tensor) -> Tensor:
        """Reads the clips of a moment one after the other, then zeros up to the length of the video.

        Args:
            clips: (Q, Lv, D) projected clips.
            count: (Q,) clips of each query's video.
            first, last: (Q,) int64 first and last clip of the moment.

        Returns:
            (Q, D).
        """
        length, dims = clips.shape[1:]
        place = torch.arange(length, device=clips.device)
        index = (first[:, None] + place).clamp(max=length - 1)
        behind = place > (last - first)[:, None]
        read = clips.gather(1, index[..., None].expand(-1, -1, dims)).masked_fill(behind[..., None], 0.0)
        # Under autocast to bfloat16 cuDNN computes GRUs in float16 all the same, and nothing scales the loss for that.
        plain = torch.autocast(read.device.type, enabled=False) if autocasting(read.device) else nullcontext()
        with plain:
            states = self.moment_reader(read.to(next(self.moment_reader.parameters()).dtype))[0]
        return states.gather(1, (count - 1)[:, None, None].expand(-1, 1, dims))[:, 0]
