# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Names of tables and rows as they are typed."""

import pytest

from mesm_plugin.reproduction.choice import chosen_rows, chosen_table
from mesm_plugin.reproduction.tables import TABLES


@pytest.mark.parametrize("name", ["table1", "Table1", "TABLE 1", "1", "table_1", "tab-1", " table 01 "])
def test_table(name: str) -> None:
    assert chosen_table(name) is TABLES[1]


@pytest.mark.parametrize("name", ["table8", "0", "tabel1", "table1 table2", ""])
def test_unknown_table(name: str) -> None:
    with pytest.raises(ValueError, match="there is no table .*known are table1, table2, .*table7"):
        chosen_table(name)


@pytest.mark.parametrize(
    ("table", "names", "rows"),
    [
        (1, None, [row.name for row in TABLES[1].rows]),
        (1, ["MESM"], ["mesm_vgg_glove", "mesm_clip_slowfast"]),
        (1, ["mesm-clip-slowfast", "QD-DETR"], ["qd_detr_vgg_glove", "qd_detr_clip_slowfast", "mesm_clip_slowfast"]),
        (4, ["I3D"], ["mesm_i3d_glove"]),
        (1, ["QD-DETR* (C+SF, C)"], ["qd_detr_clip_slowfast"]),
        (1, ["mesm_charades_vgg_glove_paper_protocol.py"], ["mesm_vgg_glove"]),
        (5, ["SS"], ["ss"]),
        (5, ["enc+FW"], ["fw_enc"]),
        (6, ["4 MA"], ["4_ma"]),
        (7, ["2", "6 layers"], ["2_layers", "6_layers"]),
    ],
)
def test_rows(table: int, names: list[str] | None, rows: list[str]) -> None:
    assert [row.name for row in chosen_rows(TABLES[table], names)] == rows


@pytest.mark.parametrize("name", ["mesn_vgg_glove", "umt", "", "*"])
def test_unknown_row(name: str) -> None:
    with pytest.raises(ValueError, match=r"^--rows .*: table1 has no such row; (did you mean|known are)"):
        chosen_rows(TABLES[1], [name])
