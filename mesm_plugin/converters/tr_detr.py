# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Brings checkpoints of TR-DETR's authors, and of Lighthouse's TR-DETR, into this package's form."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mesm_plugin.converters import detr_family as family
from mesm_plugin.converters.peer import Options, Peer

_FUSION = {
    "fuser.cq_attention.w4C": "clip_weight",
    "fuser.cq_attention.w4Q": "word_weight",
    "fuser.cq_attention.w4mlu": "product_weight",
    "fuser.cq_attention.cqa_linear.conv1d": "fusion",
    "fuser.cq_concat.weighted_pool.weight": "sentence_weight",
    "fuser.cq_concat.conv1d.conv1d": "sentence_fusion",
}


def _without_effect(options: Options) -> tuple[str, ...]:
    return ("txt_position_embed.",)


def _model_config(options: Options, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    family.refuse_word_position(options)
    config = family.grounder_config("TRDETR", options, state_dict)
    rank = {"type": "RankContrastiveLoss", "loss_weight": options["lw_saliency"], "negative_pairs": False}
    return {
        **config,
        "count_padding": True,
        "aligner": {
            "num_layers": options["enc_layers"],
            "clip_sentence_loss": {"loss_weight": options["CTC_loss_coef"]},
            "contrastive_loss": {"loss_weight": options["VTC_loss_coef"]},
            "count_padding": True,
        },
        "label_loss": {"loss_weight": options["label_loss_coef"]},
        "saliency_losses": [*config["saliency_losses"], rank],
    }


TR_DETR = Peer(
    code="TR-DETR's code",
    names={
        **family.INPUT_AND_HEAD,
        **{theirs: f"aligner.fusion.{ours}" for theirs, ours in _FUSION.items()},
        **family.layers("transformer.t2v_encoder", "aligner", family.CROSS_ATTENTION_LAYER),
        **family.ENCODER,
        **family.DAB_DECODER,
        "saliency_proj1": "saliency_head.projection",
        "gru_extractor.gru": "moment_reader",
    },
    model_config=_model_config,
    without_effect=_without_effect,
    without_ones=("fuser.",),
)
"""TR-DETR's checkpoints."""
