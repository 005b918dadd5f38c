# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The published numbers, and the configs of the rows."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mesm_plugin.engine.config_checking import check_config
from mesm_plugin.engine.config_loading import read_config
from mesm_plugin.registry import MODELS
from mesm_plugin.reproduction.tables import FULL, TABLES

ROWS = [(table, row) for table in TABLES.values() for row in table.rows]
CONFIGS = sorted({row.config for _, row in ROWS})
ABLATION = "mesm_charades_clip_slowfast_"
OFF = {
    "without_fw": {"model.aligner.frame_word"},
    "without_ss": {"model.aligner.segment_sentence"},
    "without_fw_ss": {"model.aligner.frame_word", "model.aligner.segment_sentence"},
    "without_fw_enc": {"model.aligner.frame_word", "model.saliency_losses"},
    "without_ss_enc": {"model.aligner.segment_sentence", "model.saliency_losses"},
    "without_fw_ss_enc": {"model.aligner.frame_word", "model.aligner.segment_sentence", "model.saliency_losses"},
    "4_ma": {"model.aligner.frame_word", "model.aligner.num_layers"},
    "4_ma_without_ss": {"model.aligner.frame_word", "model.aligner.segment_sentence", "model.aligner.num_layers"},
    **{f"{layers}_ss_layers": {"model.aligner.segment_sentence.num_layers"} for layers in (2, 3, 5, 6)},
}


def differences(first: dict, second: dict, path: str = "") -> set[str]:
    found = set()
    for key in {**first, **second}:
        one, other = first.get(key), second.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            found |= differences(one, other, f"{path}{key}.")
        elif one != other:
            found.add(f"{path}{key}")
    return found


def read_parts(config: Config) -> dict:
    """What MMEngine reads of a config."""
    return {key: value for key, value in config.to_dict().items() if key.endswith(("er", "g", "s")) or key == "model"}


def test_rows_of_the_tables() -> None:
    assert {number: len(table.rows) for number, table in TABLES.items()} == {1: 5, 2: 1, 3: 3, 4: 4, 5: 7, 6: 5, 7: 5}
    for table, row in ROWS:
        assert len(row.paper) == len(table.metrics)
        assert [other.name for other in table.rows].count(row.name) == 1


@pytest.mark.parametrize(
    ("number", "row", "metric", "value"),
    [
        (1, "qd_detr_vgg_glove", "R1@0.7", 32.69),
        (1, "mesm_vgg_glove", "mAP@0.75", 33.64),
        # The first cell of these rows stands in the column of the extractors in the extracted text.
        (1, "moment_detr_clip_slowfast", "R1@0.5", 53.22),
        (1, "qd_detr_clip_slowfast", "mAP", 35.39),
        (1, "mesm_clip_slowfast", "mAP@0.5", 70.31),
        (2, "mesm_c3d_glove", "R1@0.1", 65.03),
        (2, "mesm_c3d_glove", "mIoU", 36.94),
        (3, "moment_detr_clip_slowfast", "mAP@0.5", 54.82),
        (3, "mesm_clip_slowfast", "mAP", 40.68),
        (4, "qd_detr_clip_slowfast", "novel_word/R1@0.5", 48.2),
        (4, "mesm_i3d_glove", "novel_composition/R1@0.7", 26.00),
        (5, "ss", "R1@0.7", 33.17),
        (5, "ss_enc", "mIoU", 51.15),
        (6, "2_ma", "mAP", 36.82),
        (6, "4_ma", "R1@0.5", 55.03),
        (6, "2_fw_2_ma", "R1@0.7", 36.26),
        (6, "4_ma_ss", "mIoU", 50.10),
        (6, "2_fw_2_ma_ss", "R1@0.5", 61.24),
        (7, "5_layers", "R1@0.7", 38.39),
        (7, "6_layers", "mAP", 37.60),
    ],
)
def test_published_numbers(number: int, row: str, metric: str, value: float) -> None:
    table = TABLES[number]
    found = next(known for known in table.rows if known.name == row)
    assert found.paper[table.metrics.index(metric)] == value


def test_rows_that_are_the_same_training_share_a_config() -> None:
    assert {(table.number, row.name) for table, row in ROWS if row.config == FULL} == {
        (1, "mesm_clip_slowfast"),
        (5, "fw_ss_enc"),
        (6, "2_fw_2_ma_ss"),
        (7, "4_layers"),
    }
    # The same training has the same published numbers.
    for metric in ("R1@0.5", "R1@0.7", "mAP"):
        values = {row.paper[table.metrics.index(metric)] for table, row in ROWS if row.config == FULL}
        assert len(values) == 1
    ablations = {row.config: row.paper for row in TABLES[5].rows}
    shared = [row for row in TABLES[6].rows if row.config in ablations]
    assert [row.name for row in shared] == ["2_ma", "2_fw_2_ma", "2_fw_2_ma_ss"]
    assert all(row.paper == ablations[row.config] for row in shared)


@pytest.mark.parametrize("name", CONFIGS)
def test_config_of_a_row_builds_its_model(name: str) -> None:
    config = read_config(name)
    check_config(config)
    with DefaultScope.overwrite_default_scope("mesm_plugin"), torch.device("meta"):
        model = MODELS.build(config.model)
    method = {"mesm": "DETRGrounder", "qd": "QDDETR", "moment": "MomentDETR"}[name.split("_")[0]]
    assert type(model).__name__ == method


@pytest.mark.parametrize("variant", OFF)
def test_an_ablation_differs_in_what_it_is_named_for(variant: str) -> None:
    config, full = read_config(ABLATION + variant), read_config(FULL)
    assert differences(read_parts(full), read_parts(config)) == OFF[variant]
    with DefaultScope.overwrite_default_scope("mesm_plugin"), torch.device("meta"):
        model = MODELS.build(config.model)
    assert (model.aligner.frame_word is None) == ("model.aligner.frame_word" in OFF[variant])
    assert (model.aligner.segment_sentence is None) == ("model.aligner.segment_sentence" in OFF[variant])
    assert (len(model.saliency_losses) == 0) == ("model.saliency_losses" in OFF[variant])
    assert len(model.aligner.layers) == (4 if variant.startswith("4_ma") else 2)


def test_layers_of_table_7() -> None:
    layers = [read_config(row.config).model.aligner.segment_sentence.num_layers for row in TABLES[7].rows]
    assert layers == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("name", "mesm"),
    [
        ("qd_detr_charades_vgg_glove_paper_protocol", "mesm_charades_vgg_glove_paper_protocol"),
        ("qd_detr_charades_clip_slowfast_paper_protocol", FULL),
        ("moment_detr_charades_clip_slowfast_paper_protocol", FULL),
        ("qd_detr_charades_cg_clip_slowfast_paper_protocol", "mesm_charades_cg_clip_slowfast_paper_protocol"),
        ("moment_detr_charades_cg_clip_slowfast_paper_protocol", "mesm_charades_cg_clip_slowfast_paper_protocol"),
    ],
)
def test_rows_with_a_star_are_trained_as_mesm_is(name: str, mesm: str) -> None:
    changed = differences(read_parts(read_config(mesm)), read_parts(read_config(name)))
    assert {key.split(".")[0] for key in changed} == {"model"}
    assert read_config(name).get("param_scheduler") is None


def test_widths_of_i3d() -> None:
    config = read_config("mesm_charades_cg_i3d_glove_paper_protocol")
    features = config.train_dataloader.dataset.features
    assert (features["files"][0].split("/")[-1], features.dims) == ("i3d.hdf5", [1024])
    assert (config.model.video_dims, config.model.text_dims) == (1026, 300)
