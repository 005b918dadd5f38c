# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The configs for QVHighlights build the models that the authors' published options describe."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mesm_plugin.converters import CG_DETR, EATR, MOMENT_DETR, QD_DETR, TR_DETR, UVCOM, Peer
from mesm_plugin.registry import MODELS

CONFIGS = Path(__file__).parents[2] / "configs"
# What the options of all authors' checkpoints and scripts for QVHighlights have in common.
COMMON = {
    "hidden_dim": 256,
    "nheads": 8,
    "dim_feedforward": 1024,
    "enc_layers": 2,
    "dec_layers": 2,
    "dropout": 0.1,
    "input_dropout": 0.5,
    "n_input_proj": 2,
    "num_queries": 10,
    "use_txt_pos": False,
    "contrastive_hdim": 64,
    "aux_loss": True,
    "clip_length": 2,
    "set_cost_span": 10,
    "set_cost_giou": 1,
    "set_cost_class": 4,
    "span_loss_coef": 10,
    "giou_loss_coef": 1,
    "label_loss_coef": 4,
    "eos_coef": 0.1,
    "lw_saliency": 1.0,
    "saliency_margin": 0.2,
}
THREE = {"enc_layers": 3, "dec_layers": 3}
CGDETR_OPTIONS = {
    **THREE,
    "t2v_layers": 2,
    "sent_layers": 1,
    "moment_layers": 1,
    "dummy_layers": 2,
    "num_dummies": 45,
    "total_prompts": 10,
    "num_prompts": 1,
    "lw_wattn": 1.0,
    "lw_ms_align": 1.0,
    "lw_distill": 1.0,
}
UVCOM_OPTIONS = {
    **THREE,
    "num_queries": 30,
    "n_txt_mu": 5,
    "n_visual_mu": 30,
    "em_iter": 5,
    "slot_iter": 5,
    "sim_loss_coef": 1,
}
PUBLISHED: dict[str, tuple[Peer, dict[str, Any]]] = {
    "cg_detr": (CG_DETR, CGDETR_OPTIONS),
    "eatr": (EATR, {**THREE, "query_dim": 2, "num_slot_iter": 3, "event_coef": 3.0}),
    "moment_detr": (MOMENT_DETR, {}),
    "qd_detr": (QD_DETR, {}),
    "tr_detr": (TR_DETR, {"VTC_loss_coef": 0.3, "CTC_loss_coef": 0.5}),
    "uvcom": (UVCOM, UVCOM_OPTIONS),
}
WIDTHS = {
    "input_vid_proj.0.LayerNorm.weight": torch.empty(2304 + 512 + 2, device="meta"),
    "input_txt_proj.0.LayerNorm.weight": torch.empty(512, device="meta"),
    "CIM.processer_for_tgt.mlp.layers.0.bias": torch.empty(1024, device="meta"),
}


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """Numbers, words and switches of all modules of a model, and the shapes of its parameters."""
    with torch.device("meta"):
        model: nn.Module = MODELS.build(config)
    found: dict[str, Any] = {f"post_process.{name}": value for name, value in vars(model.post_process).items()}
    for path, module in model.named_modules():
        found |= {f"{path}.{name}": x for name, x in vars(module).items() if isinstance(x, bool | int | float | str)}
    found |= {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    # Whether padding takes part is the one thing that the converters decide otherwise (docs/design.md).
    return {name: value for name, value in found.items() if not name.endswith("count_padding")}


@pytest.mark.parametrize("name", PUBLISHED)
def test_config_builds_what_the_published_options_describe(name: str) -> None:
    peer, options = PUBLISHED[name]
    shipped = Config.fromfile(CONFIGS / name / f"{name}_qvhighlights_clip_slowfast.py").model
    assert settings(shipped) == settings(peer.config({**COMMON, **options}, WIDTHS))


def test_another_option_is_another_model() -> None:
    base = settings(QD_DETR.config(COMMON, WIDTHS))
    for option, value in {"num_queries": 9, "dropout": 0.2, "lw_saliency": 4, "set_cost_giou": 2}.items():
        assert settings(QD_DETR.config({**COMMON, option: value}, WIDTHS)) != base, option
