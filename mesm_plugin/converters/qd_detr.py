# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Brings checkpoints of QD-DETR's authors, and of Lighthouse's QD-DETR, into this package's form."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mesm_plugin.converters import detr_family as family
from mesm_plugin.converters.peer import Options, Peer


def _model_config(options: Options, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    config = family.grounder_config("QDDETR", options, state_dict)
    return {
        **config,
        "aligner": {"num_layers": options["enc_layers"], "word_position": family.word_position(options)},
        "saliency_losses": [*config["saliency_losses"], *family.contrastive_saliency_losses(options)],
    }


QD_DETR = Peer(
    code="QD-DETR's code",
    names={
        **family.INPUT_AND_HEAD,
        **family.WORD_POSITION,
        **family.layers("transformer.t2v_encoder", "aligner", family.CROSS_ATTENTION_LAYER),
        **family.ENCODER,
        **family.GLOBAL_TOKEN,
        **family.GLOBAL_TOKEN_SALIENCY,
        **family.DAB_DECODER,
    },
    model_config=_model_config,
    without_effect=family.without_word_position,
)
"""QD-DETR's checkpoints."""
