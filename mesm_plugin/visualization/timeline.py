# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Pictures of what was asked, what is true and what was predicted along a video."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mesm_plugin.structures import GroundingDataSample

INCHES = 9.0
LEFT, WIDTH = 0.085, 0.88
CURVE_HEIGHT = 0.75
ROW_HEIGHT = 0.24
HEAD_HEIGHT = 0.62
TEXT = "#1f2933"
QUIET = "#7b8794"
TRUE = "#2f9e62"
PREDICTED = "#e8590c"
CURVE = "#3b5bdb"
STRIP = "Blues"


def draw_timelines(samples: Sequence[GroundingDataSample], *, queries: int | None = None, top: int = 3) -> Figure:
    """Draws each query of each video: its saliency curve, its clips as a strip, true and predicted moments.

    Args:
        samples: Videos with `pred_moments`, and `pred_saliency` and `gt_moments` where there are any.
        queries: At most so many queries a video; all if None.
        top: At most so many predicted moments a query, best first.

    Returns:
        A figure of its own, unknown to pyplot.

    Raises:
        ValueError: If there is nothing to draw.
    """
    panels = [(sample, index) for sample in samples for index in range(len(sample.sentences))[:queries]]
    if not panels:
        raise ValueError("there is no query to draw")
    rows = [_rows(sample, index, top) for sample, index in panels]
    heights = [HEAD_HEIGHT + CURVE_HEIGHT + ROW_HEIGHT * (1 + len(row)) for row in rows]
    total = sum(heights) + 0.35
    figure = Figure(figsize=(INCHES, total), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    upper = total - 0.05
    for (sample, index), row, height in zip(panels, rows, heights, strict=True):
        bars = ROW_HEIGHT * len(row)
        bottom = upper - height + ROW_HEIGHT * 0.9
        axes = figure.add_axes((LEFT, bottom / total, WIDTH, bars / total))
        strip = figure.add_axes((LEFT, (bottom + bars) / total, WIDTH, 0.16 / total), sharex=axes)
        curve = figure.add_axes((LEFT, (bottom + bars + 0.18) / total, WIDTH, CURVE_HEIGHT / total), sharex=axes)
        _draw_head(figure, sample, index, (upper - 0.12) / total, 0.2 / total)
        _draw_saliency(curve, strip, sample, index)
        _draw_moments(axes, row, sample.duration)
        upper -= height
    return figure


def _rows(sample: GroundingDataSample, index: int, top: int) -> list[tuple[str, str, np.ndarray]]:
    """Label, colour and moments (M, 2 or 3) of each row of bars."""
    rows = []
    if "gt_moments" in sample:
        rows.append(("true", TRUE, np.asarray(sample.gt_moments[index])))
    rows += [(f"#{rank}", PREDICTED, moment[None]) for rank, moment in enumerate(sample.pred_moments[index][:top], 1)]
    return rows


def _draw_head(figure: Figure, sample: GroundingDataSample, index: int, top: float, line: float) -> None:
    sentence = textwrap.shorten(sample.sentences[index], 90, placeholder=" ...")
    figure.text(LEFT, top, f"“{sentence}”", fontsize=10.5, color=TEXT, va="top", weight="bold", parse_math=False)
    video = f"video {sample.vid}, {sample.duration:.1f} s"
    figure.text(LEFT, top - line, video, fontsize=8, color=QUIET, va="top", parse_math=False)


def _draw_saliency(curve: Any, strip: Any, sample: GroundingDataSample, index: int) -> None:
    edges = np.linspace(0, sample.duration, sample.num_clips + 1)
    curve.set_xlim(0, sample.duration)
    for axes, name in ((curve, "saliency"), (strip, "clips")):
        axes.tick_params(left=False, labelleft=False, bottom=False, labelbottom=False)
        axes.spines[:].set_visible(False)
        axes.set_ylabel(name, fontsize=8, color=QUIET, rotation=0, ha="right", va="center")
    if "gt_moments" in sample:
        for start, end in sample.gt_moments[index]:
            curve.axvspan(start, end, color=TRUE, alpha=0.13, lw=0)
    if "pred_saliency" not in sample:
        return
    saliency = np.asarray(sample.pred_saliency[index], dtype=np.float64)
    low, high = float(saliency.min()), float(saliency.max())
    scaled = (saliency - low) / max(high - low, 1e-12)
    centres = (edges[:-1] + edges[1:]) / 2
    curve.fill_between(centres, scaled, color=CURVE, alpha=0.18, lw=0)
    curve.plot(centres, scaled, color=CURVE, lw=1.6, solid_joinstyle="round")
    curve.set_ylim(-0.03, 1.12)
    # The lines between many clips would cover them.
    line = 0.6 if sample.num_clips <= 150 else 0.0
    shade = {"cmap": STRIP, "vmin": -0.15, "vmax": 1.2}
    strip.pcolormesh(edges, [0, 1], scaled[None], edgecolors="white", linewidth=line, **shade)


def _draw_moments(axes: Any, rows: list[tuple[str, str, np.ndarray]], duration: float) -> None:
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#cbd2d9")
    axes.tick_params(left=False, labelsize=8, labelcolor=QUIET, color="#cbd2d9")
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
    axes.xaxis.set_major_formatter("{x:g} s")
    for row, (_, colour, moments) in enumerate(rows):
        axes.axhline(row, color="#e4e7eb", lw=0.8, zorder=0)
        for start, end, *score in moments:
            strength = 0.35 + 0.65 * min(max(score[0], 0.0), 1.0) if score else 1.0
            width = max(end - start, duration / 400)
            axes.barh(row, width, left=start, height=0.62, color=_paler(colour, strength), lw=0, zorder=2)
            text = f"{start:.1f} - {end:.1f} s" + (f"   score {score[0]:.2f}" if score else "")
            anchor, shift, side = _beside(start, end, duration)
            axes.annotate(
                text,
                (anchor, row),
                xytext=(shift, 0),
                textcoords="offset points",
                ha=side,
                va="center_baseline",
                fontsize=7.5,
                color=TEXT,
                zorder=3,
                bbox=None if side == "center" else {"facecolor": "white", "linewidth": 0, "pad": 1},
            )


def _beside(start: float, end: float, duration: float) -> tuple[float, int, str]:
    """Where the text of a bar finds room: right of it, left of it, or else on it. Anchor, shift in points, side."""
    if end < 0.72 * duration:
        return end, 4, "left"
    if start > 0.28 * duration:
        return start, -4, "right"
    return (start + end) / 2, 0, "center"


def _paler(colour: str, strength: float) -> tuple[float, ...]:
    return tuple(1 - strength * (1 - channel) for channel in to_rgb(colour))
