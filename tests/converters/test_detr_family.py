# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the peers descending from Moment-DETR fit the grounders that they describe, and no other."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch

from mesm_plugin.converters import CG_DETR, EATR, MOMENT_DETR, QD_DETR, TR_DETR, UVCOM, Peer
from mesm_plugin.engine.checkpoint import CheckpointError, check_fit, read_checkpoint
from mesm_plugin.registry import MODELS

PEERS = {
    "cg_detr": CG_DETR,
    "eatr": EATR,
    "moment_detr": MOMENT_DETR,
    "qd_detr": QD_DETR,
    "tr_detr": TR_DETR,
    "uvcom": UVCOM,
}

each_peer = pytest.mark.parametrize("name", PEERS)


def golden(shared: Path, name: str) -> dict[str, Any]:
    return torch.load(shared / "golden" / "models" / f"{name}.pt", weights_only=True)


def convert(shared: Path, tmp_path: Path, name: str, peer: Peer) -> tuple[dict[str, Any], Path]:
    file = golden(shared, name)
    source, target = tmp_path / f"{name}.ckpt", tmp_path / f"{name}.pth"
    # The authors' options hold what is no number, too.
    options = argparse.Namespace(**file["config"], device=torch.device("cuda"), resume=None, v_feat_dirs=["clip"])
    torch.save({"model": file["state_dict"], "optimizer": {}, "epoch": 1, "opt": options}, source)
    return peer.convert_checkpoint(source, target), target


@each_peer
def test_converted_file_fits_its_model(shared: Path, tmp_path: Path, name: str) -> None:
    config, target = convert(shared, tmp_path, name, PEERS[name])
    assert (config["video_dims"], config["text_dims"]) == (34, 24)
    assert config["post_process"] == {"max_seconds": 150.0, "round_to": 2.0}
    model = MODELS.build(config)
    read = read_checkpoint(target)
    check_fit(model, read, target)
    model.load_state_dict(read["state_dict"])
    bias = golden(shared, name)["state_dict"]["class_embed.bias"]
    assert torch.equal(model.moment_head.label.bias, bias)


@each_peer
def test_a_checkpoint_of_another_grounder_is_refused(shared: Path, tmp_path: Path, name: str) -> None:
    for other, peer in PEERS.items():
        if other != name:
            # Options are read before parameters, and some files lack an option that the other code has.
            message = rf"{name}\.ckpt: .* (parameters are not those|which the training options) of {peer.code}"
            with pytest.raises(ValueError, match=message):
                convert(shared, tmp_path, name, peer)


def test_a_converted_checkpoint_of_another_grounder_is_refused(shared: Path, tmp_path: Path) -> None:
    config, _ = convert(shared, tmp_path, "moment_detr", MOMENT_DETR)
    _, target = convert(shared, tmp_path, "qd_detr", QD_DETR)
    with pytest.raises(
        CheckpointError,
        match="was trained for QDDETR with .*, but this config builds MomentDETR with .*missing.*unexpected",
    ):
        check_fit(MODELS.build(config), read_checkpoint(target), target)


@pytest.mark.parametrize("option", ["pre_norm", "contrastive_align_loss"])
def test_what_no_published_setting_has_is_refused(shared: Path, option: str) -> None:
    file = golden(shared, "moment_detr")
    with pytest.raises(ValueError, match=f"option {option}=True of Moment-DETR's code: only False is supported"):
        MOMENT_DETR.config({**file["config"], option: True}, file["state_dict"])


@pytest.mark.parametrize("name", ["moment_detr", "qd_detr"])
def test_word_positions_are_used_where_the_options_say_so(shared: Path, name: str) -> None:
    file = golden(shared, name)
    options = {**file["config"], "use_txt_pos": True}
    model = MODELS.build(PEERS[name].config(options, file["state_dict"]))
    model.load_state_dict(PEERS[name].convert_state_dict(file["state_dict"], options))
    assert model.aligner.word_position.embedding.num_embeddings == 32


@pytest.mark.parametrize("name", ["cg_detr", "eatr", "tr_detr"])
def test_word_positions_are_ignored_in_files_of_lighthouse_or_refused(shared: Path, name: str) -> None:
    file, peer = golden(shared, name), PEERS[name]
    options = {**file["config"], "use_txt_pos": True}
    assert peer.config(options, file["state_dict"]) == peer.config(file["config"], file["state_dict"])
    with pytest.raises(ValueError, match=f"option use_txt_pos=True of {peer.code}: only False is supported"):
        peer.config({**options, "contrastive_hdim": 64}, file["state_dict"])


def test_eatr_of_its_authors_sets_the_rounds(shared: Path) -> None:
    file = golden(shared, "eatr")
    assert EATR.config(file["config"], file["state_dict"])["decoder"]["slot_iterations"] == 3
    authors = {**file["config"], "num_slot_iter": 5, "query_dim": 2}
    assert EATR.config(authors, file["state_dict"])["decoder"]["slot_iterations"] == 5
    with pytest.raises(ValueError, match="option query_dim=1 of EaTR's code: only 2 is supported"):
        EATR.config({**authors, "query_dim": 1}, file["state_dict"])


def test_uvcom_of_its_authors_walks_exactly(shared: Path) -> None:
    file = golden(shared, "uvcom")
    options, authors = file["config"], {**file["config"], "slot_iter": 5}
    assert UVCOM.config(options, file["state_dict"])["aligner"]["exact_walk"] is False
    assert UVCOM.config(authors, file["state_dict"])["aligner"]["exact_walk"] is True
    for option, value in {"use_txt_pos": True, "n_input_proj": 3, "cross_fusion": True}.items():
        with pytest.raises(ValueError, match=f"option {option}={value} of UVCOM's code: only"):
            UVCOM.config({**authors, option: value}, file["state_dict"])


def test_uvcom_without_similarity_loss_has_no_parameters_for_it(shared: Path) -> None:
    file = golden(shared, "uvcom")
    options = {**file["config"], "sim_loss_coef": 0}
    model = MODELS.build(UVCOM.config(options, file["state_dict"]))
    model.load_state_dict(UVCOM.convert_state_dict(file["state_dict"], options))


def test_options_of_lighthouse_lack_some() -> None:
    options: dict[str, Any] = {"hidden_dim": 8, "dec_layers": 3}
    widths = {f"input_{x}_proj.0.LayerNorm.weight": torch.ones(4) for x in ("vid", "txt")}
    with pytest.raises(ValueError, match="the options lack 'nheads', which the training options of QD-DETR's code"):
        QD_DETR.config(options, widths)
