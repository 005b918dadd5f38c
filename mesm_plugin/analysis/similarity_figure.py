# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Picture of subspace similarities between text and segment (MESM, Fig. 5)."""

import re
import textwrap
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mesm_plugin.analysis.alignment_study import PAIRS, AlignmentStudy, Curve

TEXT = "#1f2933"
QUIET = "#7b8794"
FEW = 0.1
# Colour, marker, width of the line and size of the marker of each line of Fig. 5; of equal ones the later is thinner.
STYLES = (
    ("#868e96", "o", 3.0, 7.0),
    ("#f08c00", "s", 2.6, 6.5),
    ("#3b5bdb", "D", 2.6, 6.5),
    ("#2f9e62", "^", 1.3, 5.0),
)


def draw_similarities(study: AlignmentStudy) -> Figure:
    """Draws one line a pair of features: similarity over the number of singular vectors of the text.

    Over several queries, a line is the mean and its band one standard deviation to both sides; it ends where fewer
    than a tenth of the queries have so many singular vectors. Dotted in the same colour is what random subspaces of the
    same sizes have on average.

    Args:
        study: Of one or more queries.

    Returns:
        A figure of its own, unknown to pyplot.
    """
    figure = Figure(figsize=(7.6, 4.6), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.085, 0.125, 0.60, 0.70))
    longest, highest = 1, 0.0
    for curve in study.curves:
        mean, spread, number, chance = curve.over_queries()
        # The mean of a few long sentences is not the one of all.
        drawn = number >= FEW * len(study.features)
        mean, spread, chance = mean[drawn], spread[drawn], chance[drawn]
        count = np.arange(1, len(mean) + 1)
        longest = max(longest, len(mean))
        line = PAIRS.index(curve.pair)
        colour, marker, width, size = STYLES[line]
        low, high = np.clip(mean - spread, 0, 1), np.clip(mean + spread, 0, 1)
        highest = max(highest, high.max(), chance.max())
        if len(study.features) > 1:
            axes.fill_between(count, low, high, color=colour, alpha=0.10, lw=0)
        axes.plot(count, chance, color=colour, lw=0.9, ls=":", alpha=0.8)
        label = f"{line + 1}  {_symbols(curve)}"
        axes.plot(count, mean, color=colour, lw=width, marker=marker, ms=size, mec="white", mew=0.7, label=label)
    axes.plot([], [], color=QUIET, lw=0.9, ls=":", label="random subspaces")
    _style(axes, longest, highest)
    legend = axes.legend(
        loc="upper left", bbox_to_anchor=(1.02, 1.02), frameon=False, fontsize=9, labelspacing=0.9, handlelength=1.8
    )
    for text in legend.get_texts():
        text.set_color(TEXT)
    _head(figure, study)
    return figure


def _style(axes: Any, longest: int, highest: float) -> None:
    axes.set_xlim(0.75, longest + 0.25)
    axes.set_ylim(0, min(1.15 * highest, 1.03))
    step = max(1, round(longest / 12))
    axes.set_xticks(range(1, longest + 1, step))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#cbd2d9")
    axes.tick_params(labelsize=8.5, labelcolor=TEXT, color="#cbd2d9")
    axes.grid(axis="y", color="#e4e7eb", lw=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel("i, singular vectors of the text", fontsize=9, color=TEXT)
    axes.set_ylabel("subspace similarity to the segment", fontsize=9, color=TEXT)


def _head(figure: Figure, study: AlignmentStudy) -> None:
    if len(study.features) == 1:
        query = study.features[0]
        lines = textwrap.wrap(f"“{query.sentence}”", 82, max_lines=2, placeholder=" ...”")
        below = f"query {query.qid} of video {query.vid}, a segment of {len(query.segment)} clips"
    else:
        lines = [f"Mean over {len(study.features)} queries"]
        below = "bands: one standard deviation; lines end where under a tenth of the texts have so many vectors"
    figure.text(0.085, 0.965, "\n".join(lines), fontsize=10.5, color=TEXT, va="top", weight="bold", parse_math=False)
    offset = 0.05 * len(lines)
    figure.text(0.085, 0.96 - offset, below, fontsize=8, color=QUIET, va="top", parse_math=False)


def _symbols(curve: Curve) -> str:
    """The label with the symbols set as formulas."""
    text = curve.pair.label.replace(" without MLM", "\n     without MLM")
    return re.sub(r"F_([qv])(\^enh)?", lambda found: rf"$F_{found[1]}{'^{enh}' if found[2] else ''}$", text)
