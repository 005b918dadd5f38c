# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Figures as files."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mesm_plugin.utils.atomic_file import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def check_figure_file(path: str | os.PathLike[str]) -> None:
    """Checks that a figure can be written to `path`, before the work that it shows is done.

    Raises:
        ValueError: If the ending is not that of an image format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    known = FigureCanvasAgg.get_supported_filetypes()
    if _kind(path) not in known:
        raise ValueError(f"cannot draw to {path}: its ending should be one of {', '.join(sorted(known))}")


def save_figure(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Writes a figure in the format that the ending of `path` names; `path` appears when it is complete.

    Raises:
        ValueError: See `check_figure_file`.
    """
    check_figure_file(path)
    with atomic_file(path) as unfinished:
        figure.savefig(unfinished, format=_kind(path))


def _kind(path: str | os.PathLike[str]) -> str:
    return Path(path).suffix[1:].lower()
