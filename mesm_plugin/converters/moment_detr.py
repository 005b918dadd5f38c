# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Brings checkpoints of Moment-DETR's authors, and of Lighthouse's Moment-DETR, into this package's form."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mesm_plugin.converters import detr_family as family
from mesm_plugin.converters.peer import Options, Peer


def _model_config(options: Options, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    config = family.grounder_config("MomentDETR", options, state_dict)
    return {**config, "aligner": {"word_position": family.word_position(options)}}


MOMENT_DETR = Peer(
    code="Moment-DETR's code",
    names={
        **family.INPUT_AND_HEAD,
        **family.WORD_POSITION,
        **family.ENCODER,
        **family.layers("transformer.decoder", "decoder", family.DETR_DECODER_LAYER),
        "transformer.decoder.norm": "decoder.norm",
        "query_embed.weight": "decoder.object_queries",
        "saliency_proj": "saliency_head.mlp.0",
    },
    model_config=_model_config,
    without_effect=family.without_word_position,
)
"""Moment-DETR's checkpoints."""
