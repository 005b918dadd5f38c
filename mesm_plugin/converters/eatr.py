# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Brings checkpoints of EaTR's authors, and of Lighthouse's EaTR, into this package's form."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mesm_plugin.converters import detr_family as family
from mesm_plugin.converters.peer import Options, Peer

_DECODER = "transformer.decoder"
_FIRST_LAYER = {
    "gate_cross_attn": "cross_attention",
    "gate_self_attn": "self_attention",
    "gate_linear": "linear",
    "gate_norm": "norm",
}
_SLOT_ATTENTION = {
    "project_q": "query",
    "project_k": "key",
    "project_v": "value",
    **{name: name for name in ("norm_inputs", "norm_slots", "norm_mlp", "norm_out")},
}


def _by_authors(options: Options) -> bool:
    """Whether the options are those of the authors' code: Lighthouse's has no `num_slot_iter`."""
    return "num_slot_iter" in options


def _without_effect(options: Options) -> tuple[str, ...]:
    # The span heads stand under the decoder, too.
    return "txt_position_embed.", "moment_span_embed.", "event_span_embed."


def _model_config(options: Options, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    family.refuse_word_position(options)
    options.require(query_dim=2)
    config = family.grounder_config("EaTR", options, state_dict)
    return {
        **config,
        # Lighthouse's code has no option for the rounds, and 3 of them.
        "decoder": {
            **config["decoder"],
            "slot_iterations": options["num_slot_iter"] if _by_authors(options) else 3,
            "count_padding": True,
        },
        "event_weight": options["event_coef"],
    }


EATR = Peer(
    code="EaTR's code",
    names={
        **family.INPUT_AND_HEAD,
        **family.ENCODER,
        **family.DAB_DECODER,
        **family.mlp(f"{_DECODER}.moment_span_embed", "moment_head.span"),
        **family.mlp(f"{_DECODER}.event_span_embed", "decoder.event_head"),
        **{f"{_DECODER}.layers.0.{theirs}": f"decoder.fusion.{ours}" for theirs, ours in _FIRST_LAYER.items()},
        **{f"{_DECODER}.slot_atten.{theirs}": f"decoder.slot_attention.{o}" for theirs, o in _SLOT_ATTENTION.items()},
        **family.mlp(f"{_DECODER}.slot_atten.mlp", "decoder.slot_attention.mlp"),
        f"{_DECODER}.slot_atten.slots": "decoder.slots",
        f"{_DECODER}.event_norm": "decoder.event_norm",
        "saliency_proj": "saliency_head.mlp.0",
    },
    model_config=_model_config,
    without_effect=_without_effect,
)
"""EaTR's checkpoints."""
