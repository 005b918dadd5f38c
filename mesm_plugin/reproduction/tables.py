# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The tables of the paper: what their rows are, and the published numbers.

Source: "Towards Balanced Alignment: Modal-Enhanced Semantic Modeling for Video Moment Retrieval", AAAI 2024. Rows of
methods that are not in this package are left out.
"""

from dataclasses import dataclass

MR = ("R1@0.5", "R1@0.7", "mAP@0.5", "mAP@0.75", "mAP")
ABLATION = ("R1@0.5", "R1@0.7", "mIoU", "mAP")
NOVEL = ("R1@0.5", "R1@0.7", "mIoU")
FULL = "mesm_charades_clip_slowfast_paper_protocol"


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: By which `--rows` knows it; unique in its table.
        label: What the paper calls it.
        config: Name of the shipped config.
        paper: Published numbers in percent, in the order of the table's metrics.
    """

    name: str
    label: str
    config: str
    paper: tuple[float, ...]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        number: In the paper.
        title: What it shows.
        data: The data set of all its rows.
        metrics: Names of the scores of a run, as the evaluator calls them.
        rows: From top to bottom.
        paper_split: The split that the published numbers are of.
        split: The split that can be scored here; another one where its configs have no labels.
    """

    number: int
    title: str
    data: str
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    paper_split: str = "test"
    split: str = "test"

    @property
    def name(self) -> str:
        """Such as "table1", the name of its files."""
        return f"table{self.number}"


def _ablation(name: str, label: str, variant: str | None, *paper: float) -> Row:
    return Row(name, label, f"mesm_charades_clip_slowfast_{variant}" if variant else FULL, paper)


TABLES = {
    1: Table(
        1,
        "Charades-STA",
        "Charades-STA",
        MR,
        (
            Row(
                "qd_detr_vgg_glove",
                "QD-DETR* (VGG, GloVe)",
                "qd_detr_charades_vgg_glove_paper_protocol",
                (51.51, 32.69, 62.88, 32.60, 34.46),
            ),
            Row(
                "mesm_vgg_glove",
                "MESM (VGG, GloVe)",
                "mesm_charades_vgg_glove_paper_protocol",
                (56.69, 35.99, 67.94, 33.64, 37.33),
            ),
            Row(
                "moment_detr_clip_slowfast",
                "Moment-DETR* (C+SF, C)",
                "moment_detr_charades_clip_slowfast_paper_protocol",
                (53.22, 30.87, 58.86, 26.43, 30.43),
            ),
            Row(
                "qd_detr_clip_slowfast",
                "QD-DETR* (C+SF, C)",
                "qd_detr_charades_clip_slowfast_paper_protocol",
                (56.89, 32.50, 66.49, 32.00, 35.39),
            ),
            Row("mesm_clip_slowfast", "MESM (C+SF, C)", FULL, (61.24, 38.04, 70.31, 36.36, 38.57)),
        ),
    ),
    2: Table(
        2,
        "TACoS",
        "TACoS",
        ("R1@0.1", "R1@0.3", "R1@0.5", "mIoU"),
        (
            Row(
                "mesm_c3d_glove",
                "MESM (C3D, GloVe)",
                "mesm_tacos_c3d_glove_paper_protocol",
                (65.03, 52.69, 39.52, 36.94),
            ),
        ),
    ),
    3: Table(
        3,
        "QVHighlights",
        "QVHighlights",
        MR,
        (
            Row(
                "moment_detr_clip_slowfast",
                "Moment-DETR (C+SF, C)",
                "moment_detr_qvhighlights_clip_slowfast",
                (52.89, 33.02, 54.82, 29.40, 30.73),
            ),
            Row(
                "qd_detr_clip_slowfast",
                "QD-DETR (C+SF, C)",
                "qd_detr_qvhighlights_clip_slowfast",
                (62.40, 44.98, 62.52, 39.88, 39.86),
            ),
            Row(
                "mesm_clip_slowfast",
                "MESM (C+SF, C)",
                "mesm_qvhighlights_clip_slowfast",
                (62.78, 45.20, 62.64, 41.45, 40.68),
            ),
        ),
        split="val",
    ),
    4: Table(
        4,
        "Charades-CG",
        "Charades-CG",
        tuple(f"{split}/{metric}" for split in ("novel_composition", "novel_word") for metric in NOVEL),
        (
            Row(
                "mesm_i3d_glove",
                "MESM (I3D, GloVe)",
                "mesm_charades_cg_i3d_glove_paper_protocol",
                (46.19, 26.00, 41.40, 50.50, 33.67, 46.20),
            ),
            Row(
                "moment_detr_clip_slowfast",
                "Moment-DETR* (C+SF, C)",
                "moment_detr_charades_cg_clip_slowfast_paper_protocol",
                (37.65, 18.91, 36.17, 43.45, 21.73, 38.37),
            ),
            Row(
                "qd_detr_clip_slowfast",
                "QD-DETR* (C+SF, C)",
                "qd_detr_charades_cg_clip_slowfast_paper_protocol",
                (40.62, 19.96, 36.64, 48.2, 26.19, 43.22),
            ),
            Row(
                "mesm_clip_slowfast",
                "MESM (C+SF, C)",
                "mesm_charades_cg_clip_slowfast_paper_protocol",
                (44.39, 23.27, 39.89, 52.66, 31.22, 46.38),
            ),
        ),
    ),
    5: Table(
        5,
        "FW-MESM, SS-MESM and the encoder's loss, on Charades-STA (C+SF, C)",
        "Charades-STA",
        ABLATION,
        (
            _ablation("none", "none", "without_fw_ss_enc", 53.82, 30.78, 46.75, 33.99),
            _ablation("fw", "FW", "without_ss_enc", 54.76, 31.51, 47.15, 34.18),
            _ablation("ss", "SS", "without_fw_enc", 54.60, 33.17, 47.60, 34.24),
            _ablation("enc", "L_enc", "without_fw_ss", 57.66, 35.00, 49.91, 36.82),
            _ablation("fw_enc", "FW, L_enc", "without_ss", 59.62, 36.26, 50.91, 37.83),
            _ablation("ss_enc", "SS, L_enc", "without_fw", 60.19, 37.39, 51.15, 38.31),
            _ablation("fw_ss_enc", "FW, SS, L_enc", None, 61.24, 38.04, 52.14, 38.57),
        ),
    ),
    6: Table(
        6,
        "Layers of cross-attention with and without masked words, on Charades-STA (C+SF, C)",
        "Charades-STA",
        ABLATION,
        (
            _ablation("2_ma", "2 MA, without SS", "without_fw_ss", 57.66, 35.00, 49.91, 36.82),
            _ablation("4_ma", "4 MA, without SS", "4_ma_without_ss", 55.03, 33.05, 47.63, 36.79),
            _ablation("2_fw_2_ma", "2 FW + 2 MA, without SS", "without_ss", 59.62, 36.26, 50.91, 37.83),
            _ablation("4_ma_ss", "4 MA, with SS", "4_ma", 57.39, 36.37, 50.10, 37.49),
            _ablation("2_fw_2_ma_ss", "2 FW + 2 MA, with SS", None, 61.24, 38.04, 52.14, 38.57),
        ),
    ),
    7: Table(
        7,
        "Layers of SS-MESM, on Charades-STA (C+SF, C)",
        "Charades-STA",
        ABLATION,
        (
            _ablation("2_layers", "2 layers", "2_ss_layers", 57.10, 35.32, 49.75, 36.26),
            _ablation("3_layers", "3 layers", "3_ss_layers", 59.38, 35.22, 50.68, 37.90),
            _ablation("4_layers", "4 layers", None, 61.24, 38.04, 52.14, 38.57),
            _ablation("5_layers", "5 layers", "5_ss_layers", 60.97, 38.39, 52.09, 38.50),
            _ablation("6_layers", "6 layers", "6_ss_layers", 58.25, 35.70, 50.31, 37.60),
        ),
    ),
}
