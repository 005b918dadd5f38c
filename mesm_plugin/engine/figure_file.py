# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Figures as files."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mesm_plugin.utils.atomic_file import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Writes a figure in the format that the ending of `path` names; `path` appears when it is complete.

    Raises:
        ValueError: If the ending is not that of an image format.
    """
    kind = Path(path).suffix[1:].lower()
    known = figure.canvas.get_supported_filetypes()
    if kind not in known:
        raise ValueError(f"cannot draw to {path}: its ending should be one of {', '.join(sorted(known))}")
    with atomic_file(path) as unfinished:
        figure.savefig(unfinished, format=kind)
