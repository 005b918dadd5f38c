# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Brings checkpoints of UVCOM's authors, and of Lighthouse's UVCOM, into this package's form."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mesm_plugin.converters import detr_family as family
from mesm_plugin.converters.peer import Options, Peer

_CROSS_ATTENTION = {f"layers.*.{a}": f"layers.[i].{b}" for a, b in family.CROSS_ATTENTION_LAYER.items()}
_POOLING = {"project_v": "value", **{name: name for name in ("norm_inputs", "norm_mlp", "norm_out")}}


def _by_authors(options: Options) -> bool:
    """Whether the options are those of the authors' code: Lighthouse's has no `slot_iter`."""
    return "slot_iter" in options


def _without_effect(options: Options) -> tuple[str, ...]:
    # The learned token is overwritten. The slots start alike, so that queries and keys of theirs change nothing.
    names = ["global_rep_token", "txt_position_embed."]
    names += [f"CIM.processer_for_tgt.{name}." for name in ("norm_slots", "project_q", "project_k")]
    if not options["sim_loss_coef"]:
        names += ["CIM.sim_vid.", "CIM.sim_txt."]
    return tuple(names)


def _model_config(options: Options, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    # With another number of blocks, the clips' projection has other activations than that of the words.
    options.require(cross_fusion=False, n_input_proj=2)
    if _by_authors(options):
        # Lighthouse's code ignores it.
        options.require(use_txt_pos=False)
    config = family.grounder_config("UVCOM", options, state_dict)
    similarity_weight = options["sim_loss_coef"]
    return {
        **config,
        "mlp_dims": len(state_dict["CIM.processer_for_tgt.mlp.layers.0.bias"]),
        "count_padding": True,
        "aligner": {
            "num_layers": options["enc_layers"],
            "num_word_prototypes": options["n_txt_mu"],
            "num_clip_prototypes": options["n_visual_mu"],
            "num_iterations": options["em_iter"],
            "exact_walk": _by_authors(options),
            "count_padding": True,
        },
        "saliency_losses": [*config["saliency_losses"], *family.contrastive_saliency_losses(options)],
        "similarity_loss": {"loss_weight": similarity_weight} if similarity_weight else None,
    }


UVCOM = Peer(
    code="UVCOM's code",
    names={
        **family.INPUT_AND_HEAD,
        **{f"CIM.t2v_encoder.{a}": f"aligner.clip_{b}" for a, b in _CROSS_ATTENTION.items()},
        **{f"CIM.v2t_encoder.{a}": f"aligner.word_{b}" for a, b in _CROSS_ATTENTION.items()},
        "CIM.txt_mu": "aligner.word_prototypes.initial",
        "CIM.vid_mu": "aligner.clip_prototypes.initial",
        **{f"CIM.conv_local.{i}": f"aligner.local_convolution.{o}" for i, o in enumerate(("first", "second", "third"))},
        **family.layers("CIM.GKA_Module", "encoder", family.ENCODER_LAYER),
        "global_rep_pos": "encoder.global_position",
        "CIM.feature_proj": "sentence_projection",
        **{f"CIM.processer_for_tgt.{theirs}": f"clip_pooling.{ours}" for theirs, ours in _POOLING.items()},
        **family.mlp("CIM.processer_for_tgt.mlp", "clip_pooling.mlp"),
        **{theirs.replace("transformer.", "CIM."): ours for theirs, ours in family.DAB_DECODER.items()},
        "CIM.decoder.span_embed.weight": "decoder.initial_state",
        **family.mlp("CIM.sim_vid", "similarity_head.video"),
        **family.mlp("CIM.sim_txt", "similarity_head.sentence"),
        **family.GLOBAL_TOKEN_SALIENCY,
    },
    model_config=_model_config,
    without_effect=_without_effect,
)
"""UVCOM's checkpoints."""
