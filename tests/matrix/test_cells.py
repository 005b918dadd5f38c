# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Which configs rows and columns of a matrix are."""

import pytest
from mmengine.config import Config

from mesm_plugin.engine.config_loading import read_config
from mesm_plugin.matrix import cells as matrix
from mesm_plugin.matrix.components import aligner_types, chosen_grounders, grounder_types, shipped_grounders

PREFIXES = {
    "CGDETR": "cg_detr",
    "DETRGrounder": "mesm",
    "EaTR": "eatr",
    "MomentDETR": "moment_detr",
    "QDDETR": "qd_detr",
    "TRDETR": "tr_detr",
    "UVCOM": "uvcom",
}
ALIGNERS = [
    "CGDETRAligner",
    "ConcatAligner",
    "CrossAttentionAligner",
    "MESMAligner",
    "TRDETRAligner",
    "UVCOMAligner",
]

OWN = matrix.Recipe()


@pytest.fixture(scope="module")
def shipped() -> dict[str, Config]:
    return shipped_grounders()


def cells_of(name: str, shipped: dict[str, Config], monkeypatch, recipe=OWN) -> dict[str, matrix.Cell]:
    """All cells with the data of a shipped config, as if its text encoder knew 99 classes of words."""
    monkeypatch.setattr(matrix, "_word_classes", lambda data: 99)
    data = read_config(name)
    grounders = chosen_grounders(data, None, shipped)
    columns = matrix.build_columns(data, ALIGNERS, grounders.values())
    return {cell.name: cell for cell in matrix.build_cells(data, grounders, columns, [0], recipe)}


def test_all_grounders_and_aligners_take_part() -> None:
    assert grounder_types() == list(PREFIXES)
    assert aligner_types() == ALIGNERS


@pytest.mark.parametrize("data", ["charades_clip_slowfast", "qvhighlights_clip_slowfast"])
def test_a_row_is_the_config_of_the_grounder_for_the_data_set(data: str, shipped: dict[str, Config]) -> None:
    chosen = chosen_grounders(read_config(f"qd_detr_{data}"), None, shipped)
    assert {name: matrix.config_name(config) for name, config in chosen.items()} == {
        name: f"{prefix}_{data}" for name, prefix in PREFIXES.items()
    }


def test_the_config_of_the_data_set_is_that_of_its_grounder(shipped: dict[str, Config]) -> None:
    chosen = chosen_grounders(read_config("mesm_charades_simulated"), None, shipped)
    assert matrix.config_name(chosen["DETRGrounder"]) == "mesm_charades_simulated"
    assert matrix.config_name(chosen["QDDETR"]) == "qd_detr_charades_clip_slowfast"


def test_own_cells_are_the_grounders_configs(shipped: dict[str, Config], monkeypatch) -> None:
    cells = cells_of("mesm_charades_clip_slowfast", shipped, monkeypatch)
    assert len(cells) == 42
    own = {cell.grounder: cell for cell in cells.values() if cell.own}
    assert list(own) == list(PREFIXES)
    for grounder, cell in own.items():
        row = shipped[f"{PREFIXES[grounder]}_charades_clip_slowfast"]
        assert cell.config["model"] == row.model.to_dict()
        assert cell.config["optim_wrapper"] == row.optim_wrapper.to_dict()
        assert cell.config.get("param_scheduler") == row.get("param_scheduler")
        assert cell.config["train_dataloader"]["batch_size"] == row.train_dataloader.batch_size
        assert cell.config["randomness"] == {"seed": 0}


def test_a_column_is_one_aligner_and_nothing_else_of_a_row_changes(shipped: dict[str, Config], monkeypatch) -> None:
    cells = cells_of("mesm_charades_clip_slowfast", shipped, monkeypatch)
    own = cells["QDDETR-CrossAttentionAligner-seed0"].config
    for aligner in ALIGNERS:
        config = cells[f"QDDETR-{aligner}-seed0"].config
        assert {**config["model"], "aligner": None} == {**own["model"], "aligner": None}
        assert {**config, "model": None} == {**own, "model": None}
    column = cells["MomentDETR-CGDETRAligner-seed0"].config["model"]["aligner"]
    assert column == {"type": "CGDETRAligner", "attention_saliency_loss": {"loss_weight": 4.0}}
    assert (
        cells["EaTR-MESMAligner-seed0"].config["model"]["aligner"]
        == (cells["DETRGrounder-MESMAligner-seed0"].config["model"]["aligner"])
    )


def test_an_aligner_of_another_config_is_fitted_to_the_words(shipped: dict[str, Config], monkeypatch) -> None:
    monkeypatch.setattr(matrix, "_word_classes", lambda data: 99)
    data = read_config("qd_detr_charades_clip_slowfast", ["model.text_dims=300"])
    homes = chosen_grounders(data, None, shipped).values()
    frame_word = matrix.build_columns(data, ["MESMAligner"], homes)["MESMAligner"]["frame_word"]
    assert (frame_word["num_word_classes"], frame_word["token_dims"]) == (99, 300)
    assert frame_word["update"] == "add_norm_ffn"
    assert matrix.build_columns(data, ["MESMAligner"], [])["MESMAligner"] == {
        "type": "MESMAligner",
        "frame_word": {"num_word_classes": 99},
    }


@pytest.mark.parametrize("own_schedule", [True, False])
def test_schedule_and_data(shipped: dict[str, Config], monkeypatch, own_schedule: bool) -> None:
    options = ("train_dataloader.dataset.indices=7", "model.aligner.num_layers=1")
    recipe = matrix.Recipe(own_schedule, 3, options)
    config = cells_of("mesm_charades_simulated", shipped, monkeypatch, recipe)["UVCOM-ConcatAligner-seed0"].config
    assert config["optim_wrapper"]["optimizer"]["lr"] == (1e-4 if own_schedule else 3e-4)
    milestones = config["param_scheduler"][0] if own_schedule else config["param_scheduler"]
    assert milestones["milestones"] == ([80] if own_schedule else [6])
    assert config["train_cfg"]["max_epochs"] == 3
    assert config["model"]["video_dims"] == 258
    assert config["model"]["post_process"] == {"max_seconds": 150.0, "round_to": 1.0}
    assert config["model"]["encoder"] == {"num_layers": 3}
    assert config["model"]["aligner"] == {"type": "ConcatAligner"}
    assert config["train_dataloader"]["dataset"]["features"]["dims"] == [256]
    assert config["train_dataloader"]["dataset"]["indices"] == 7
