# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Brings checkpoints of CG-DETR's authors, and of Lighthouse's CG-DETR, into this package's form."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mesm_plugin.converters import detr_family as family
from mesm_plugin.converters.peer import Options, Peer


def _model_config(options: Options, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    family.refuse_word_position(options)
    config = family.grounder_config("CGDETR", options, state_dict)
    return {
        **config,
        "aligner": {
            "num_layers": options["t2v_layers"],
            "num_dummies": options["num_dummies"],
            "num_prompts": options["total_prompts"],
            "num_chosen_prompts": options["num_prompts"],
            "dummy_layers": options["dummy_layers"],
            "sentence_layers": options["sent_layers"],
            "moment_layers": options["moment_layers"],
            "attention_saliency_loss": {
                "loss_weight": options["lw_saliency"] * options["lw_wattn"],
                "margin": options["saliency_margin"],
            },
            "moment_sentence_loss": {"loss_weight": options["lw_ms_align"]},
            "distillation_loss": {"loss_weight": options["lw_distill"]},
            "orthogonality_loss": {"loss_weight": options["lw_distill"]},
        },
        "saliency_losses": [*config["saliency_losses"], *family.contrastive_saliency_losses(options)],
    }


CG_DETR = Peer(
    code="CG-DETR's code",
    names={
        **family.INPUT_AND_HEAD,
        "token_type_embeddings.weight": "aligner.token_types",
        "dummy_rep_token": "aligner.dummies",
        "dummy_rep_pos": "aligner.dummy_position",
        **family.layers("txtproj_encoder", "aligner.dummy_encoder", family.ENCODER_LAYER),
        **family.layers("transformer.t2v_encoder", "aligner", family.CROSS_ATTENTION_LAYER),
        "global_rep_token": "aligner.prompts",
        "sent_rep_token": "aligner.sentence_token",
        "sent_rep_pos": "aligner.sentence_position",
        **family.layers("scls_encoder", "aligner.sentence_encoder", family.ENCODER_LAYER),
        "moment_rep_token": "aligner.moment_token",
        "moment_rep_pos": "aligner.moment_position",
        **family.layers("transformer.mcls_encoder", "aligner.moment_encoder", family.ENCODER_LAYER),
        **family.ENCODER,
        "global_rep_pos": "encoder.global_position",
        **family.GLOBAL_TOKEN_SALIENCY,
        **family.DAB_DECODER,
    },
    model_config=_model_config,
    without_effect=lambda options: ("txt_position_embed.", "txt_proj_linear."),
    without_ones=("global_rep_pos",),
)
"""CG-DETR's checkpoints."""
