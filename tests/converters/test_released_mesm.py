# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""MESM's released names and options are translated, and its files fit the model that they describe."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch

from mesm_plugin.converters import RELEASED_MESM
from mesm_plugin.engine.checkpoint import check_fit, read_checkpoint
from mesm_plugin.registry import MODELS

OPTIONS: dict[str, Any] = {"rec_fw": True, "rec_ss": True, "use_txt_pos": False}


def test_text_encoder_is_left_out() -> None:
    state_dict = {"class_embed.weight": torch.eye(2), "text_encoder.emb.weight": torch.ones(3)}
    converted = RELEASED_MESM.convert_state_dict(state_dict, OPTIONS)
    assert list(converted) == ["moment_head.label.weight"]
    assert torch.equal(converted["moment_head.label.weight"], torch.eye(2))


def test_separate_ffn_and_deep_names() -> None:
    names = RELEASED_MESM.parameter_names(
        [
            "enhance_encoder.t2v_encoder.layers.1.norm2_1.bias",
            "enhance_encoder.t2v_encoder.layers.1.linear1.weight",
            "input_vid_proj.2.net.1.weight",
            "span_embed.layers.2.bias",
            "transformer.decoder.layers.0.self_attn.out_proj.bias",
        ],
        OPTIONS,
    )
    assert list(names.values()) == [
        "aligner.frame_word.layers.1.words_update.norm2.bias",
        "aligner.frame_word.layers.1.update.linear1.weight",
        "video_projection.10.weight",
        "moment_head.span.4.bias",
        "decoder.layers.0.self_out.bias",
    ]


def test_slope_that_two_ffns_share_is_listed_twice() -> None:
    layer = "enhance_encoder.t2v_encoder.layers.0."
    released = {layer + "activation.weight": torch.ones(1), layer + "norm1_1.weight": torch.ones(4)}
    converted = RELEASED_MESM.convert_state_dict(released, OPTIONS)
    layer = "aligner.frame_word.layers.0."
    assert converted[layer + "words_update.activation.weight"] is converted[layer + "update.activation.weight"]


def test_unsupported_option_is_named() -> None:
    with pytest.raises(ValueError, match="option pre_norm=True of the released MESM code: only False is supported"):
        RELEASED_MESM.config({**OPTIONS, "pre_norm": True}, {})


def test_converted_file_fits_its_model(shared: Path, tmp_path: Path) -> None:
    golden = torch.load(shared / "golden" / "models" / "mesm_charades.pt", weights_only=True)
    source, target = tmp_path / "released.ckpt", tmp_path / "converted.pth"
    torch.save({"model": golden["state_dict"], "opt": argparse.Namespace(**golden["config"])}, source)
    config = RELEASED_MESM.convert_checkpoint(source, target)
    assert (config["video_dims"], config["text_dims"]) == (34, 24)
    assert config["aligner"]["frame_word"]["num_word_classes"] == 51
    model = MODELS.build(config)
    read = read_checkpoint(target)
    check_fit(model, read, target)
    model.load_state_dict(read["state_dict"])
    assert torch.equal(model.decoder.anchors, golden["state_dict"]["query_embed.weight"])
