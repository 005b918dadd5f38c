# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Parameter names and options that the peers descending from Moment-DETR have in common."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mesm_plugin.converters.peer import Options

_SAME = {name: name for name in ("linear1", "linear2", "norm1", "norm2", "norm3", "activation")}
ENCODER_LAYER = {"self_attn": "attention", **_SAME}
CROSS_ATTENTION_LAYER = {"self_attn": "attention", **{name: f"update.{name}" for name in _SAME}}
DETR_DECODER_LAYER = {"self_attn": "self_attention", "multihead_attn": "cross_attention", **_SAME}
DAB_DECODER_LAYER = {
    "sa_qcontent_proj": "self_query_content",
    "sa_qpos_proj": "self_query_position",
    "sa_kcontent_proj": "self_key_content",
    "sa_kpos_proj": "self_key_position",
    "sa_v_proj": "self_value",
    "self_attn.out_proj": "self_out",
    "ca_qcontent_proj": "cross_query_content",
    "ca_qpos_proj": "cross_query_position",
    "ca_qpos_sine_proj": "cross_query_sine",
    "ca_kcontent_proj": "cross_key_content",
    "ca_kpos_proj": "cross_key_position",
    "ca_v_proj": "cross_value",
    "cross_attn.out_proj": "cross_out",
    **_SAME,
}


def layers(theirs: str, ours: str, parts: Mapping[str, str]) -> dict[str, str]:
    """Names of a stack of layers, from those of the parts of a layer."""
    return {f"{theirs}.layers.*.{a}": f"{ours}.layers.[i].{b}" for a, b in parts.items()}


def mlp(theirs: str, ours: str) -> dict[str, str]:
    """Names of a perceptron, which is a sequence with activations here."""
    return {f"{theirs}.layers.*": f"{ours}.[2i]"}


def projection(theirs: str, ours: str) -> dict[str, str]:
    """Names of an input projection, which is a flat sequence here."""
    return {f"{theirs}.*.LayerNorm": f"{ours}.[4i]", f"{theirs}.*.net.1": f"{ours}.[4i+2]"}


INPUT_AND_HEAD = {
    **projection("input_vid_proj", "video_projection"),
    **projection("input_txt_proj", "text_projection"),
    **mlp("span_embed", "moment_head.span"),
    "class_embed": "moment_head.label",
}
ENCODER = layers("transformer.encoder", "encoder", ENCODER_LAYER)
GLOBAL_TOKEN = {"global_rep_token": "encoder.global_token", "global_rep_pos": "encoder.global_position"}
GLOBAL_TOKEN_SALIENCY = {
    "saliency_proj1": "saliency_head.clip_projection",
    "saliency_proj2": "saliency_head.token_projection",
}
DAB_DECODER = {
    **layers("transformer.decoder", "decoder", DAB_DECODER_LAYER),
    **mlp("transformer.decoder.ref_point_head", "decoder.position_head"),
    **mlp("transformer.decoder.query_scale", "decoder.sine_scale"),
    **mlp("transformer.decoder.ref_anchor_head", "decoder.width_head"),
    **mlp("transformer.decoder.bbox_embed", "decoder.refinement_head"),
    "transformer.decoder.norm": "decoder.norm",
    "query_embed.weight": "decoder.anchors",
}
WORD_POSITION = {
    "txt_position_embed.position_embeddings": "aligner.word_position.embedding",
    "txt_position_embed.LayerNorm": "aligner.word_position.norm",
}


def without_word_position(options: Options) -> tuple[str, ...]:
    """The peers have an embedding of the words' places even where nothing uses it."""
    return () if options.get("use_txt_pos") else ("txt_position_embed.",)


def word_position(options: Options) -> dict[str, Any] | None:
    """Arguments of `LearnedWordPosition`, or None."""
    if not options.get("use_txt_pos"):
        return None
    return {"max_words": options["max_q_l"], "dropout": options["input_dropout"]}


def refuse_word_position(options: Options) -> None:
    """Refuses files with positions of words whose authors can switch them on, which no published setting does.

    Lighthouse's code ignores the option; the authors' is told by one that Lighthouse's has not.

    Raises:
        ValueError: The words have positions.
    """
    if "contrastive_hdim" in options:
        options.require(use_txt_pos=False)


def grounder_config(grounder: str, options: Options, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """The config of a grounder as far as the peers have the same options; its own parts stay at their defaults.

    Raises:
        ValueError: An option is missing, or asks for something that no published setting has.
    """
    options.require(pre_norm=False, span_loss_type="l1", position_embedding="sine", contrastive_align_loss=False)
    return {
        "type": grounder,
        "video_dims": len(state_dict["input_vid_proj.0.LayerNorm.weight"]),
        "text_dims": len(state_dict["input_txt_proj.0.LayerNorm.weight"]),
        "dims": options["hidden_dim"],
        "heads": options["nheads"],
        "ffn_dims": options["dim_feedforward"],
        "dropout": options["dropout"],
        "projection_layers": options["n_input_proj"],
        "projection_dropout": options["input_dropout"],
        "auxiliary_loss": options["aux_loss"],
        "encoder": {"num_layers": options["enc_layers"]},
        "decoder": {"num_layers": options["dec_layers"], "num_queries": options["num_queries"]},
        "matcher": {
            "cost_span": options["set_cost_span"],
            "cost_giou": options["set_cost_giou"],
            "cost_class": options["set_cost_class"],
        },
        "span_loss": {"loss_weight": options["span_loss_coef"]},
        "giou_loss": {"loss_weight": options["giou_loss_coef"]},
        "label_loss": {"loss_weight": options["label_loss_coef"], "background_weight": options["eos_coef"]},
        "saliency_losses": [
            {
                "type": "SaliencyHingeLoss",
                "loss_weight": options["lw_saliency"],
                "margin": options["saliency_margin"],
            }
        ],
        "post_process": {"max_seconds": 150.0, "round_to": float(options["clip_length"])},
    }


def contrastive_saliency_losses(options: Options) -> list[dict[str, Any]]:
    """Configs of the losses of clip scores that QD-DETR has beside Moment-DETR's, for it and its descendants."""
    types = ("RankContrastiveLoss", "NegativePairLoss")
    return [{"type": name, "loss_weight": options["lw_saliency"]} for name in types]
