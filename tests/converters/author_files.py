# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Files as the authors' code would save them, made from this package's models by the converters' names backwards."""

import argparse
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mesm_plugin.converters import PEERS
from mesm_plugin.converters.peer import rename
from mesm_plugin.engine.config_loading import read_config
from mesm_plugin.registry import MODELS

COMMON: dict[str, Any] = {
    **{"use_tef": True, "load_vocab_pkl": False, "normalize_video": True, "normalize_txt": True, "contra_samples": 2},
    **{"max_windows": 5, "max_gather_size": -1, "share_MLP": True, "hidden_dim": 256, "dropout": 0.1, "nheads": 8},
    **{"dim_feedforward": 1024, "num_recfw_layers": 2, "t2v_layers": 2, "enc_layers": 2, "dec_layers": 2},
    **{"pre_norm": False, "position_embedding": "sine", "input_dropout": 0.5, "num_queries": 10, "use_txt_pos": False},
    **{"n_input_proj": 2, "rec_fw": True, "rec_ss": True, "num_recss_layers": 4, "set_cost_span": 10},
    **{"set_cost_giou": 1, "set_cost_class": 4, "span_loss_type": "l1", "aux_loss": True, "rank_coef": 12},
    **{"use_triplet": False, "saliency_margin": 0.2, "loss_span_coef": 10, "loss_giou_coef": 1, "loss_label_coef": 4},
    **{"loss_saliency_coef": 4, "eos_coef": 0.1, "loss_recfw_coef": 0.1, "loss_recss_coef": 0.1, "iou_gamma": 0.9},
    **{"recss_tau": 0.5, "seed": 2019, "resume": None, "nms_thd": -1, "max_ts_val": 150, "vocab_size": 1111},
}
CLIP = {"tokenizer_type": "CLIP", "max_words_l": 16, "clip_len": 1, "max_video_l": 194}
GLOVE = {"tokenizer_type": "GloVeNLTK", "max_words_l": 16, "max_video_l": 600}
CLIP_SLOWFAST = ["./data/charades/clip_image.hdf5", "./data/charades/slowfast.hdf5"]
QVHIGHLIGHTS = {"clip_len": 2, "max_words_l": 32, "max_video_l": 75, "vocab_size": 5000, "loss_recfw_coef": 0.5}
TACOS = {"clip_len": -1, "max_gather_size": 10, "share_MLP": False, "set_cost_class": 6, "loss_label_coef": 6}
TRIPLET = {"use_triplet": True, "loss_saliency_coef": 1}

# The settings of the five published checkpoints, by the shipped config for them.
PUBLISHED: dict[str, dict[str, Any]] = {
    "mesm_charades_vgg_glove": {
        **{**COMMON, **GLOVE, "dataset_name": "charades", "clip_len": 0.17, "load_vocab_pkl": True},
        "feat_files": ["./data/charades/vgg.hdf5"],
    },
    "mesm_charades_clip_slowfast": {**COMMON, **CLIP, "dataset_name": "charades", "feat_files": CLIP_SLOWFAST},
    "mesm_charades_cg_clip_slowfast": {**COMMON, **CLIP, "dataset_name": "charades-cg", "feat_files": CLIP_SLOWFAST},
    "mesm_tacos_c3d_glove": {
        **{**COMMON, **GLOVE, **TACOS, **TRIPLET, "dataset_name": "tacos", "rank_coef": 1, "max_ts_val": 1000},
        "feat_files": ["./data/TACoS/c3d.hdf5"],
    },
    "mesm_qvhighlights_clip_slowfast": {
        **{**COMMON, **CLIP, **QVHIGHLIGHTS, **TRIPLET, "dataset_name": "qvhighlights"},
        "feat_files": ["./data/qvhighlights/clip_image.hdf5", "./data/qvhighlights/slowfast.hdf5"],
    },
}
# QD-DETR's training on QVHighlights.
QD_DETR: dict[str, Any] = {
    **{
        "dset_name": "hl",
        "v_feat_dirs": ["features/slowfast_features", "features/clip_features"],
        "ctx_mode": "video_tef",
    },
    **{"t_feat_dir": "features/clip_text_features", "a_feat_dir": None, "max_q_l": 32, "max_v_l": 75, "clip_length": 2},
    **{"no_norm_vfeat": False, "no_norm_tfeat": False, "pre_norm": False, "span_loss_type": "l1", "nms_thd": -1},
    **{"position_embedding": "sine", "contrastive_align_loss": False, "contrastive_hdim": 64, "use_txt_pos": False},
    **{"hidden_dim": 256, "nheads": 8, "dim_feedforward": 1024, "dropout": 0.1, "n_input_proj": 2, "aux_loss": True},
    **{"input_dropout": 0.5, "enc_layers": 2, "dec_layers": 2, "num_queries": 10, "set_cost_span": 10},
    **{"set_cost_giou": 1, "set_cost_class": 4, "span_loss_coef": 10, "giou_loss_coef": 1, "label_loss_coef": 4},
    **{"eos_coef": 0.1, "lw_saliency": 1.0, "saliency_margin": 0.2},
}


def authors_name(ours: str, peer: str) -> str | None:
    """The peer's name of a parameter of ours; None for one that it has not."""
    for theirs, pattern in PEERS[peer].names.items():
        places = re.findall(r"\[(\d*)i\+?(\d*)\]", pattern)
        regex = re.sub(r"\\\[(?:\d*)i(?:\\\+)?(?:\d*)\\\]", r"(\\d+)", re.escape(pattern))
        if match := re.fullmatch(rf"{regex}(\..+)?", ours):
            *indices, rest = match.groups(default="")
            for (factor, offset), index in zip(places, indices, strict=True):
                theirs = theirs.replace("*", str((int(index) - int(offset or 0)) // int(factor or 1)), 1)
            if rename(theirs + rest, PEERS[peer].names) == ours:
                return theirs + rest
    return None


def state_dict_of(shipped: str, peer: str = "mesm", seed: int | None = None) -> dict[str, Tensor]:
    """Parameters of a shipped config's model by a peer's names; zeros, or random with a `seed`."""
    with torch.device("meta"):
        model = MODELS.build(read_config(shipped).model)
    generator = torch.Generator().manual_seed(seed or 0)
    named = {}
    for ours, value in model.state_dict().items():
        theirs = authors_name(ours, peer)
        # PyTorch lists a slope that two FFNs share twice, the authors' code once.
        if theirs is None and ".words_update.activation" in ours:
            continue
        assert theirs is not None, ours
        named[theirs] = (
            torch.zeros(value.shape) if seed is None else torch.randn(value.shape, generator=generator) * 0.05
        )
    # What the authors' models have and nothing uses.
    named["txt_position_embed.LayerNorm.weight"] = torch.ones(4)
    if peer == "mesm":
        named["ss_reconstructor.output_sent_proj.weight"] = torch.ones(4, 4)
    return named


def write_author_file(file: Path, state_dict: dict[str, Tensor], options: dict[str, Any]) -> Path:
    """Saves a checkpoint as the authors' training does."""
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    content = {
        "model": state_dict,
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 400).state_dict(),
        "epoch": 3,
        "opt": argparse.Namespace(**options, device=torch.device("cuda")),
    }
    torch.save(content, file)
    return file
