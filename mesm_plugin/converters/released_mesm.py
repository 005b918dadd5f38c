# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Brings checkpoints and options of the code that MESM's authors released into this package's form."""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mesm_plugin.utils import atomic_file

_CROSS_ATTENTION_LAYER = {
    "self_attn.in_proj_weight": "attention.in_proj_weight",
    "self_attn.in_proj_bias": "attention.in_proj_bias",
    "self_attn.out_proj": "attention.out_proj",
    "linear1": "update.linear1",
    "linear2": "update.linear2",
    "norm1": "update.norm1",
    "norm2": "update.norm2",
    "activation": "update.activation",
    "linear1_1": "words_update.linear1",
    "linear2_1": "words_update.linear2",
    "norm1_1": "words_update.norm1",
    "norm2_1": "words_update.norm2",
}
_ENCODER_LAYER = {
    "self_attn": "attention",
    **{name: name for name in ("linear1", "linear2", "norm1", "norm2", "activation")},
}
_DECODER_LAYER = {
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
    **{name: name for name in ("linear1", "linear2", "norm1", "norm2", "norm3", "activation")},
}
_LAYER_STACKS = {
    "enhance_encoder.t2v_encoder.layers": ("aligner.frame_word.layers", _CROSS_ATTENTION_LAYER),
    "ss_reconstructor.recon_trans.layers": ("aligner.segment_sentence.layers", _CROSS_ATTENTION_LAYER),
    "t2v_encoder.t2v_encoder.layers": ("aligner.layers", _CROSS_ATTENTION_LAYER),
    "transformer.encoder.layers": ("encoder.layers", _ENCODER_LAYER),
    "transformer.decoder.layers": ("decoder.layers", _DECODER_LAYER),
}
# MLPs and projections are sequences here: their linear layers stand at every second or every fourth place.
_SEQUENCES = {
    r"transformer\.decoder\.ref_point_head\.layers": "decoder.position_head",
    r"transformer\.decoder\.query_scale\.layers": "decoder.sine_scale",
    r"transformer\.decoder\.ref_anchor_head\.layers": "decoder.width_head",
    r"transformer\.decoder\.bbox_embed\.layers": "decoder.refinement_head",
    r"span_embed\.layers": "moment_head.span",
}
_PROJECTIONS = {"input_vid_proj": "video_projection", "input_txt_proj": "text_projection"}
_SINGLE = {
    "transformer.decoder.norm": "decoder.norm",
    "query_embed.weight": "decoder.anchors",
    "class_embed": "moment_head.label",
    "global_rep_token": "encoder.global_token",
    "global_rep_pos": "encoder.global_position",
    "saliency_proj1": "saliency_head.clip_projection",
    "saliency_proj2": "saliency_head.token_projection",
    "masked_token": "aligner.frame_word.mask_token",
    "unknown_token": "aligner.frame_word.unknown_token",
    "output_txt_proj.0.LayerNorm": "aligner.frame_word.word_head.0.0",
    "output_txt_proj.0.net.1": "aligner.frame_word.word_head.0.2",
    "output_txt_proj.1": "aligner.frame_word.word_head.2",
    "ss_reconstructor.masked_sent_token": "aligner.segment_sentence.mask_token",
    "txt_position_embed.position_embeddings": "aligner.word_position.embedding",
    "txt_position_embed.LayerNorm": "aligner.word_position.norm",
}
_WITHOUT_EFFECT = ("ss_reconstructor.output_sent_proj.",)
"""Parameters that take part in no prediction and in no loss."""


class _Options(dict[str, Any]):
    def __missing__(self, key: str) -> Any:
        raise ValueError(f"the options lack {key!r}, which the released code's training options have")


def _rename(name: str) -> str:
    for released, (ours, parts) in _LAYER_STACKS.items():
        if match := re.fullmatch(rf"{re.escape(released)}\.(\d+)\.(.+)", name):
            index, rest = match.groups()
            for old, new in sorted(parts.items(), key=lambda item: -len(item[0])):
                if rest == old or rest.startswith(old + "."):
                    return f"{ours}.{index}.{new}{rest[len(old) :]}"
    for pattern, ours in _SEQUENCES.items():
        if match := re.fullmatch(rf"{pattern}\.(\d+)\.(.+)", name):
            return f"{ours}.{2 * int(match[1])}.{match[2]}"
    for released, ours in _PROJECTIONS.items():
        if match := re.fullmatch(rf"{released}\.(\d+)\.(LayerNorm|net\.1)\.(.+)", name):
            place = 4 * int(match[1]) + (0 if match[2] == "LayerNorm" else 2)
            return f"{ours}.{place}.{match[3]}"
    for released, ours in sorted(_SINGLE.items(), key=lambda item: -len(item[0])):
        if name == released or name.startswith(released + "."):
            return ours + name[len(released) :]
    raise KeyError(name)


def parameter_names(names: list[str], options: Mapping[str, Any]) -> dict[str, str]:
    """Maps released parameter names to ours.

    Args:
        names: Keys of a released state dict; those of the frozen text encoder are left out.
        options: The released options, which tell which parts are in use.

    Returns:
        Our name by released name, for the parameters that the model with these options uses.

    Raises:
        ValueError: Names that the released code does not have.
    """
    unused = list(_WITHOUT_EFFECT)
    if not options["rec_fw"]:
        unused.append("enhance_encoder.")
    if not options["use_txt_pos"]:
        unused.append("txt_position_embed.")
    renamed, unknown = {}, []
    for name in names:
        if name.startswith(("text_encoder.", *unused)):
            continue
        try:
            renamed[name] = _rename(name)
        except KeyError:
            unknown.append(name)
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(names)} parameters are not those of the released MESM code, "
            f"for instance {unknown[:3]}"
        )
    return renamed


def convert_state_dict(state_dict: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
    """Gives the parameters of a released state dict our names.

    Args:
        state_dict: Parameters under the released names.
        options: The released options (`opt` of a checkpoint, or a JSON file of the released `config/`).

    Returns:
        A state dict for the model that `model_config` describes.

    Raises:
        ValueError: See `parameter_names`.
    """
    converted = {ours: state_dict[name] for name, ours in parameter_names(list(state_dict), options).items()}
    # The two FFNs of a layer share the slope of their activation; PyTorch lists it under both names.
    for name in list(converted):
        if ".words_update.norm1.weight" in name:
            layer = name.removesuffix(".words_update.norm1.weight")
            converted[f"{layer}.words_update.activation.weight"] = converted[f"{layer}.update.activation.weight"]
    return converted


def model_config(options: Mapping[str, Any], video_dims: int, text_dims: int, num_word_classes: int) -> dict[str, Any]:
    """Translates the released options into the config of a `DETRGrounder`.

    Args:
        options: The released options (`opt` of a checkpoint, or a JSON file of the released `config/`).
        video_dims: Dv, channels of the clip features, temporal endpoint channels included.
        text_dims: Dt, channels of the word features.
        num_word_classes: Classes of the masked-language model.

    Returns:
        A config for `MODELS.build`.

    Raises:
        ValueError: An option is missing, or asks for something that the released code itself does not carry out.
    """
    options = _Options(options)
    for key, value in (("pre_norm", False), ("span_loss_type", "l1"), ("position_embedding", "sine")):
        if options[key] != value:
            raise ValueError(f"option {key}={options[key]!r}: the released code supports {value!r} only")
    frame_word = {
        "type": "FrameWordEnhancer",
        "num_layers": options["num_recfw_layers"],
        "update": "add_norm_ffn",
        "use_position": True,
        "num_word_classes": num_word_classes,
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
        "video_dims": video_dims,
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


def load_checkpoint(file: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads a checkpoint file of the authors without running any code that is in it.

    Args:
        file: A `.ckpt` or `.pth` file with the keys "model" and "opt".

    Returns:
        The state dict under the released names, and the released options.

    Raises:
        ValueError: The file is no such checkpoint.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        state_dict, options = checkpoint["model"], checkpoint["opt"]
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f'{file} is not a checkpoint of the released MESM code ("model", "opt"): {error}') from error
    return dict(state_dict), dict(vars(options) if isinstance(options, argparse.Namespace) else options)


def convert_checkpoint(source: str | Path, target: str | Path) -> dict[str, Any]:
    """Turns a checkpoint file of the authors into one that `mesm test`, `mesm predict` and `load_from` take.

    Args:
        source: A checkpoint file of the authors.
        target: File to write; it is replaced only when the new one is complete.

    Returns:
        The config of the model that the checkpoint belongs to, widths and classes as the parameters have them.

    Raises:
        ValueError: The file is no such checkpoint, or has parameters that the released code does not have.
    """
    state_dict, options = load_checkpoint(source)
    words = state_dict.get("output_txt_proj.1.bias")
    try:
        config = model_config(
            options,
            video_dims=len(state_dict["input_vid_proj.0.LayerNorm.weight"]),
            text_dims=len(state_dict["input_txt_proj.0.LayerNorm.weight"]),
            num_word_classes=1 if words is None else len(words),
        )
        converted = convert_state_dict(state_dict, options)
    except KeyError as error:
        raise ValueError(f"{source}: parameter {error} of the released MESM code is missing") from error
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    with atomic_file(target) as unfinished:
        torch.save({"state_dict": converted, "meta": {}}, unfinished)
    return config
