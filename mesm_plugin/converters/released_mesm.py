# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Brings checkpoints and options of the code that MESM's authors released into this package's form."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mesm_plugin.converters import detr_family as family
from mesm_plugin.converters.peer import Options, Peer

_CROSS_ATTENTION_LAYER = {
    **family.CROSS_ATTENTION_LAYER,
    "linear1_1": "words_update.linear1",
    "linear2_1": "words_update.linear2",
    "norm1_1": "words_update.norm1",
    "norm2_1": "words_update.norm2",
}
_NAMES = {
    **family.INPUT_AND_HEAD,
    **family.layers("enhance_encoder.t2v_encoder", "aligner.frame_word", _CROSS_ATTENTION_LAYER),
    **family.layers("ss_reconstructor.recon_trans", "aligner.segment_sentence", _CROSS_ATTENTION_LAYER),
    **family.layers("t2v_encoder.t2v_encoder", "aligner", _CROSS_ATTENTION_LAYER),
    **family.ENCODER,
    **family.GLOBAL_TOKEN,
    **family.GLOBAL_TOKEN_SALIENCY,
    **family.DAB_DECODER,
    **family.WORD_POSITION,
    "masked_token": "aligner.frame_word.mask_token",
    "unknown_token": "aligner.frame_word.unknown_token",
    "output_txt_proj.0.LayerNorm": "aligner.frame_word.word_head.0.0",
    "output_txt_proj.0.net.1": "aligner.frame_word.word_head.0.2",
    "output_txt_proj.1": "aligner.frame_word.word_head.2",
    "ss_reconstructor.masked_sent_token": "aligner.segment_sentence.mask_token",
}


def _without_effect(options: Options) -> tuple[str, ...]:
    unused = ["text_encoder.", "ss_reconstructor.output_sent_proj.", *family.without_word_position(options)]
    if not options["rec_fw"]:
        unused.append("enhance_encoder.")
    return tuple(unused)


class _ReleasedMESM(Peer):
    def convert_state_dict(self, state_dict: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
        converted = super().convert_state_dict(state_dict, options)
        # The two FFNs of a layer share the slope of their activation; PyTorch lists it under both names.
        for name in list(converted):
            if ".words_update.norm1.weight" in name:
                layer = name.removesuffix(".words_update.norm1.weight")
                converted[f"{layer}.words_update.activation.weight"] = converted[f"{layer}.update.activation.weight"]
        return converted


def _model_config(options: Options, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    options.require(pre_norm=False, span_loss_type="l1", position_embedding="sine")
    text_dims = len(state_dict["input_txt_proj.0.LayerNorm.weight"])
    words = state_dict.get("output_txt_proj.1.bias")
    frame_word = {
        "type": "FrameWordEnhancer",
        "num_layers": options["num_recfw_layers"],
        "update": "add_norm_ffn",
        "use_position": True,
        "num_word_classes": 1 if words is None else len(words),
        "masked_word_clips": "moment",
        "separate_ffn": not options["share_MLP"],
        "token_dims": text_dims,
        "word_head": "projection",
        "word_head_dropout": options["input_dropout"],
    }
    segment_sentence = {
        "type": "SegmentSentenceEnhancer",
        "num_layers": options["num_recss_layers"],
        "normalize": True,
    }
    contrastive_loss = {
        "type": "IoUContrastiveLoss",
        "loss_weight": options["loss_recss_coef"],
        "gamma": options["iou_gamma"],
        "tau": options["recss_tau"],
        "similarity": "cosine",
        "iou": "giou",
        "same_source": True,
        "form": "mean_log",
        "anchor": "segment",
        "eps": 1e-6,
    }
    saliency_weight = options["loss_saliency_coef"]
    saliency_losses = [
        {"type": "RankContrastiveLoss", "loss_weight": saliency_weight, "divisor": options["rank_coef"]},
        {"type": "NegativePairLoss", "loss_weight": saliency_weight},
    ]
    if options["use_triplet"]:
        margin = options["saliency_margin"]
        saliency_losses.append({"type": "SaliencyHingeLoss", "loss_weight": saliency_weight, "margin": margin})
    max_words = options["max_words_l"] + (1 if options["rec_ss"] else 0)
    return {
        "type": "DETRGrounder",
        "video_dims": len(state_dict["input_vid_proj.0.LayerNorm.weight"]),
        "text_dims": text_dims,
        "dims": options["hidden_dim"],
        "heads": options["nheads"],
        "ffn_dims": options["dim_feedforward"],
        "dropout": options["dropout"],
        "projection_layers": options["n_input_proj"],
        "projection_dropout": options["input_dropout"],
        "auxiliary_loss": options["aux_loss"],
        "aligner": {
            "type": "MESMAligner",
            "num_layers": options["t2v_layers"],
            "frame_word": frame_word if options["rec_fw"] else None,
            "segment_sentence": segment_sentence if options["rec_ss"] else None,
            "word_position": (
                {"max_words": max_words, "dropout": options["input_dropout"]} if options["use_txt_pos"] else None
            ),
            "masked_word_loss": {
                "type": "MaskedWordLoss",
                "loss_weight": options["loss_recfw_coef"],
                "label_smoothing": 0.1,
            },
            "contrastive_loss": contrastive_loss,
        },
        "encoder": {"type": "GlobalTokenEncoder", "num_layers": options["enc_layers"]},
        "decoder": {
            "type": "DABDecoder",
            "num_layers": options["dec_layers"],
            "num_queries": options["num_queries"],
            "anchors": "normal",
        },
        "saliency_head": {"type": "GlobalTokenSaliencyHead"},
        "matcher": {
            "type": "MomentMatcher",
            "cost_span": options["set_cost_span"],
            "cost_giou": options["set_cost_giou"],
            "cost_class": options["set_cost_class"],
        },
        "span_loss": {"type": "SpanL1Loss", "loss_weight": options["loss_span_coef"]},
        "giou_loss": {"type": "SpanGIoULoss", "loss_weight": options["loss_giou_coef"]},
        "label_loss": {
            "type": "LabelLoss",
            "loss_weight": options["loss_label_coef"],
            "background_weight": options["eos_coef"],
        },
        "saliency_losses": saliency_losses,
        "post_process": {
            "max_seconds": options["max_ts_val"],
            "round_to": options["clip_len"] if options["clip_len"] > 0 else None,
        },
    }


RELEASED_MESM = _ReleasedMESM("the released MESM code", _NAMES, _model_config, _without_effect)
"""The checkpoints of MESM's authors."""
