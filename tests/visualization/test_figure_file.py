# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Figures as files."""

import pytest
from matplotlib.figure import Figure

from mesm_plugin.visualization.figure_file import check_figure_file, save_figure


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_formats(ending, start, tmp_path):
    path = tmp_path / "new" / f"picture.{ending}"
    save_figure(Figure(), path)
    assert path.read_bytes().startswith(start)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_unknown_format(tmp_path):
    with pytest.raises(ValueError, match=r"cannot draw to .*picture.txt: its ending should be one of .*png"):
        save_figure(Figure(), tmp_path / "picture.txt")


@pytest.mark.parametrize("name", ["picture", "picture.txt", ".png"])
def test_check_before_drawing(tmp_path, name):
    check_figure_file(tmp_path / "new" / "picture.PNG")
    with pytest.raises(ValueError, match="cannot draw to"):
        check_figure_file(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
