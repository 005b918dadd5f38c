# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Picture of the moments that several models predict for a query, below the frames (MESM, Fig. 4)."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mesm_plugin.structures import GroundingDataSample

INCHES = 9.0
LEFT, RIGHT = 1.45, 0.85
STRIP_HEIGHT = 0.68
CLIPS_HEIGHT = 0.2
LANE_HEIGHT = 0.25
LINE_HEIGHT = 0.2
GAP, FOOT = 0.1, 0.42
# Room beside the strip for the times at the ends of bars.
MARGIN = 0.52
DOTS_PER_INCH = 150
STRIP_ROWS = int(STRIP_HEIGHT * DOTS_PER_INCH)
STRIP_COLUMNS = int((INCHES - LEFT - RIGHT - 2 * MARGIN) * DOTS_PER_INCH)
TEXT = "#1f2933"
QUIET = "#7b8794"
TRUE = "#2f9e62"
COLOURS = ("#e8590c", "#3b5bdb", "#9c36b5", "#0c8599", "#a61e4d", "#5c940d")
LINES, LETTERS = 4, 66
LABEL_LETTERS = 17


@dataclass
class _Row:
    """A row of bars: moments (M, 2) in seconds, in lanes; a note stands to its right."""

    label: str
    colour: str
    lanes: list[list[tuple[float, float, float]]]
    note: str = ""


def draw_comparison(
    samples: Sequence[GroundingDataSample],
    labels: Sequence[str],
    frames: Sequence[np.ndarray] | None = None,
) -> Figure:
    """Draws for each query frames, the sentence, the true moments, and below each other what each model predicts.

    Of each model the best moment is drawn, or as many of the best as there are true moments, paler from rank to rank,
    and to the right its IoU with the truth where there is one true moment.

    Args:
        samples: The same video and queries from each model, with `pred_moments`, and `gt_moments` where there are any.
        labels: What each model is called.
        frames: (rows, width, 3) uint8 arrays, evenly spread over the video; if None, the clips are a plain strip.

    Returns:
        A figure of its own, unknown to pyplot.

    Raises:
        ValueError: If there is nothing to draw, or not one label a model.
    """
    if not samples or not samples[0].sentences:
        raise ValueError("there is no query to draw")
    if len(labels) != len(samples):
        raise ValueError(f"got {len(labels)} labels for {len(samples)} models, expected one for each")
    first = samples[0]
    panels = []
    for index, sentence in enumerate(first.sentences):
        lines = textwrap.wrap(f"“{sentence}”", LETTERS, max_lines=LINES, placeholder=" ...”")
        panels.append((lines, _rows(samples, labels, index)))
    strip = STRIP_HEIGHT if frames else CLIPS_HEIGHT
    heights = [_height(lines, rows, strip) for lines, rows in panels]
    total = sum(heights)
    figure = Figure(figsize=(INCHES, total), dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    upper = total
    for (lines, rows), height in zip(panels, heights, strict=True):
        _draw_panel(figure, first, lines, rows, frames, upper, total)
        upper -= height
    return figure


def _height(lines: list[str], rows: list[_Row], strip: float) -> float:
    head = GAP + LINE_HEIGHT * (len(lines) + 1) + GAP
    return head + strip + GAP + sum(_row_height(row) for row in rows) + FOOT


def _row_height(row: _Row) -> float:
    return LANE_HEIGHT * len(row.lanes) + GAP


def _rows(samples: Sequence[GroundingDataSample], labels: Sequence[str], index: int) -> list[_Row]:
    duration = samples[0].duration
    truth = np.asarray(samples[0].gt_moments[index]) if "gt_moments" in samples[0] else np.zeros((0, 2))
    rows = [_Row("Ground truth", TRUE, _lanes(truth, duration, paler=0.0))] if len(truth) else []
    for number, (sample, label) in enumerate(zip(samples, labels, strict=True)):
        best = np.asarray(sample.pred_moments[index])[: max(1, len(truth)), :2]
        note = f"IoU {_iou(best[0], truth[0]):.2f}" if len(truth) == 1 and len(best) else ""
        rows.append(_Row(label, COLOURS[number % len(COLOURS)], _lanes(best, duration), note))
    return rows


def _lanes(moments: np.ndarray, duration: float, paler: float = 0.5) -> list[list[tuple[float, float, float]]]:
    """Spreads moments over lanes so that neither bars nor times collide; each is start, end and strength 0..1."""
    lanes: list[list[tuple[float, float, float]]] = []
    room = MARGIN * duration / (INCHES - LEFT - RIGHT - 2 * MARGIN)
    for rank, (start, end) in enumerate(moments.tolist()):
        strength = 1 - paler * rank / max(1, len(moments))
        for lane in lanes:
            if all(end + room < other[0] - room or start - room > other[1] + room for other in lane):
                lane.append((start, end, strength))
                break
        else:
            lanes.append([(start, end, strength)])
    return lanes or [[]]


def _iou(moment: np.ndarray, other: np.ndarray) -> float:
    overlap = max(0.0, min(moment[1], other[1]) - max(moment[0], other[0]))
    union = max(moment[1], other[1]) - min(moment[0], other[0]) if overlap else 1.0
    return overlap / union


def _draw_panel(
    figure: Figure,
    sample: GroundingDataSample,
    lines: list[str],
    rows: list[_Row],
    frames: Sequence[np.ndarray] | None,
    upper: float,
    total: float,
) -> None:
    left, width = LEFT / INCHES, (INCHES - LEFT - RIGHT) / INCHES
    beside = MARGIN * sample.duration / (INCHES - LEFT - RIGHT - 2 * MARGIN)
    text_left = (LEFT + MARGIN) / INCHES
    top = upper - GAP
    for line in lines:
        figure.text(text_left, top / total, line, fontsize=10.5, color=TEXT, va="top", weight="bold", parse_math=False)
        top -= LINE_HEIGHT
    video = f"video {sample.vid}, {sample.duration:.1f} s"
    figure.text(text_left, (top - 0.02) / total, video, fontsize=8, color=QUIET, va="top", parse_math=False)
    top -= LINE_HEIGHT + GAP

    height = STRIP_HEIGHT if frames else CLIPS_HEIGHT
    strip = figure.add_axes((left, (top - height) / total, width, height / total))
    strip.set_axis_off()
    strip.set_xlim(-beside, sample.duration + beside)
    if frames:
        _draw_frames(strip, frames, sample.duration)
    else:
        _draw_clips(strip, sample)
    top -= height + GAP

    height = sum(_row_height(row) for row in rows)
    axes = figure.add_axes((left, (top - height) / total, width, height / total), sharex=strip)
    axes.set_ylim(height, 0)
    _style(axes, sample.duration)
    if rows[0].label == "Ground truth":
        for start, end, _ in (moment for lane in rows[0].lanes for moment in lane):
            axes.axvspan(start, end, color=TRUE, alpha=0.10, lw=0, zorder=0)
    begin = 0.0
    for row in rows:
        _draw_row(axes, row, begin, sample.duration, beside)
        begin += _row_height(row)


def _draw_frames(strip: Any, frames: Sequence[np.ndarray], duration: float) -> None:
    edges = np.linspace(0, duration, len(frames) + 1)
    gap = 0.0015 * duration
    strip.set_ylim(0, 1)
    for frame, start, end in zip(frames, edges[:-1], edges[1:], strict=True):
        strip.imshow(frame, extent=(start + gap, end - gap, 0, 1), aspect="auto", interpolation="antialiased")
    strip.set_ylim(0, 1)


def _draw_clips(strip: Any, sample: GroundingDataSample) -> None:
    edges = np.linspace(0, sample.duration, sample.num_clips + 1)
    line = 0.6 if sample.num_clips <= 150 else 0.0
    shades = np.arange(sample.num_clips)[None] % 2
    strip.pcolormesh(edges, [0, 1], shades, cmap="Greys", vmin=-1, vmax=9, edgecolors="white", linewidth=line)
    strip.set_ylim(0, 1)


def _style(axes: Any, duration: float) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#cbd2d9")
    axes.spines["bottom"].set_bounds(0, duration)
    axes.set_yticks([])
    ticks = [tick for tick in axes.xaxis.get_major_locator().tick_values(0, duration) if 0 <= tick <= duration]
    axes.set_xticks(ticks)
    axes.tick_params(labelsize=8, labelcolor=QUIET, color="#cbd2d9")
    axes.xaxis.set_major_formatter("{x:g} s")


def _wrapped(label: str) -> str:
    """A label in at most two lines, which may break behind underscores too."""
    spaced = re.sub(r"_(?=\w)", "_ ", label)
    return textwrap.fill(spaced, LABEL_LETTERS, max_lines=2, placeholder="...").replace("_ ", "_")


def _draw_row(axes: Any, row: _Row, begin: float, duration: float, beside: float) -> None:
    middle = begin + _row_height(row) / 2
    style = {"va": "center", "parse_math": False, "linespacing": 1.0, "clip_on": False, "zorder": 3}
    label = axes.text(
        -beside, middle, _wrapped(row.label), ha="right", fontsize=9, color=row.colour, weight="bold", **style
    )
    width = label.get_window_extent().width / DOTS_PER_INCH
    label.set_fontsize(9 * min(1.0, (LEFT - GAP) / width))
    axes.text(duration + 1.1 * beside, middle, row.note, ha="left", fontsize=8, color=QUIET, **style)
    for number, lane in enumerate(row.lanes):
        y = begin + GAP / 2 + LANE_HEIGHT * (number + 0.5)
        axes.plot([0, duration], [y, y], color="#e4e7eb", lw=0.8, zorder=1, solid_capstyle="butt")
        for start, end, strength in lane:
            # A moment without length shall be seen too.
            least = duration / 300
            left = min(max(start, 0.0), duration - least)
            right = max(min(end, duration), left + least)
            axes.barh(
                y, right - left, left=left, height=0.62 * LANE_HEIGHT, color=row.colour, alpha=strength, lw=0, zorder=2
            )
            for second, edge, side, shift in ((start, left, "right", -3), (end, right, "left", 3)):
                axes.annotate(
                    f"{second:.1f} s",
                    (edge, y),
                    xytext=(shift, 0),
                    textcoords="offset points",
                    ha=side,
                    va="center_baseline",
                    fontsize=7.5,
                    color=TEXT,
                    zorder=4,
                    bbox={"facecolor": "white", "linewidth": 0, "pad": 0.6, "alpha": 0.8},
                )
