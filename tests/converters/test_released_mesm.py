# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The converter reads the authors' files safely and refuses anything else."""

import argparse
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from mesm_plugin.converters.released_mesm import (
    convert_checkpoint,
    convert_state_dict,
    load_checkpoint,
    model_config,
    parameter_names,
)
from mesm_plugin.engine.checkpoint import check_fit, read_checkpoint
from mesm_plugin.registry import MODELS

OPTIONS: dict[str, Any] = {"rec_fw": True, "rec_ss": True, "use_txt_pos": False}


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    state_dict = {"class_embed.weight": torch.eye(2), "text_encoder.emb.weight": torch.ones(3)}
    file = tmp_path / "best.ckpt"
    torch.save({"model": state_dict, "epoch": 3, "opt": argparse.Namespace(**OPTIONS, lr=2e-4)}, file)
    loaded, options = load_checkpoint(file)
    assert options == {**OPTIONS, "lr": 2e-4}
    converted = convert_state_dict(loaded, options)
    assert list(converted) == ["moment_head.label.weight"]
    assert torch.equal(converted["moment_head.label.weight"], torch.eye(2))


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("executed"),)


def test_checkpoint_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {}, "opt": Hostile()}, "hostile.ckpt")
    with pytest.raises(ValueError, match=r"hostile\.ckpt is not a checkpoint of the released MESM code"):
        load_checkpoint("hostile.ckpt")
    assert not Path("executed").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", pickle.dumps({"model": 1})])
def test_not_a_checkpoint(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file.ckpt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"file\.ckpt is not a checkpoint"):
        load_checkpoint(file)


def test_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.ckpt"):
        load_checkpoint(tmp_path / "gone.ckpt")


def test_foreign_parameters_are_named() -> None:
    with pytest.raises(ValueError, match=r"1 of 2 parameters are not those of the released MESM code.*backbone\.conv"):
        parameter_names(["class_embed.weight", "backbone.conv.weight"], OPTIONS)


def test_separate_ffn_and_deep_names() -> None:
    names = parameter_names(
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


def test_unsupported_option_is_named() -> None:
    options = {**OPTIONS, "pre_norm": True}
    with pytest.raises(ValueError, match="option pre_norm=True: the released code supports False only"):
        model_config(options, 34, 24, 51)


def test_missing_options_are_named() -> None:
    with pytest.raises(
        ValueError, match="the options lack 'pre_norm', which the released code's training options have"
    ):
        model_config(OPTIONS, 34, 24, 51)


def test_converted_file_fits_its_model(shared: Path, tmp_path: Path) -> None:
    golden = torch.load(shared / "golden" / "models" / "mesm_charades.pt", weights_only=True)
    source, target = tmp_path / "released.ckpt", tmp_path / "converted.pth"
    torch.save({"model": golden["state_dict"], "opt": argparse.Namespace(**golden["config"])}, source)
    config = convert_checkpoint(source, target)
    assert (config["video_dims"], config["text_dims"]) == (34, 24)
    assert config["aligner"]["frame_word"]["num_word_classes"] == 51
    model = MODELS.build(config)
    read = read_checkpoint(target)
    check_fit(model, read, target)
    model.load_state_dict(read["state_dict"])
    assert torch.equal(model.decoder.anchors, golden["state_dict"]["query_embed.weight"])


def test_file_of_other_code_leaves_the_target_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "other.ckpt", tmp_path / "converted.pth"
    torch.save({"model": {"conv.weight": torch.ones(1)}, "opt": argparse.Namespace(lr=1.0)}, source)
    with pytest.raises(ValueError, match=r"other\.ckpt: .*is missing"):
        convert_checkpoint(source, target)
    assert not target.exists()
