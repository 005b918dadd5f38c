# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Pictures of what a data set holds."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mesm_plugin.browsing.statistics import Videos, count_words, moment_times
from mesm_plugin.datasets.text.words import STOP_WORDS, split_words

COLUMNS = 4
PANEL_WIDTH, PANEL_HEIGHT = 3.0, 2.3
HEAD_HEIGHT = 0.55
COLOURS = ("#3b5bdb", "#e8590c", "#2f9e62", "#9c36b5", "#c2255c", "#0c8599")
TEXT, QUIET, LINE = "#1f2933", "#616e7c", "#cbd2d9"
FREQUENT_WORDS = 14
HEAT_BINS = 25
# The last bin takes the tail in where the longest value is so many times the 99.5th percentile.
LONG_TAIL = 1.5

Panel = Callable[[Any], None]


def draw_dataset(title: str, splits: Mapping[str, Videos]) -> Figure:
    """Draws the distributions of each split: durations, queries, moments, grades and words.

    Where moments lie in their videos is one panel a labelled split: how often a start (to the right) goes with an end
    (upwards), both as shares of the duration.

    Args:
        title: Of the data set.
        splits: Videos of each split, as `GroundingDataset.load_data_list` returns them; none is empty.

    Returns:
        A figure of its own, unknown to pyplot.

    Raises:
        ValueError: If there is no split.
    """
    if not splits:
        raise ValueError("there is no split to draw")
    colours = {split: COLOURS[number % len(COLOURS)] for number, split in enumerate(splits)}
    panels = _panels(splits, colours)
    rows = -(-len(panels) // COLUMNS)
    width, height = COLUMNS * PANEL_WIDTH, rows * PANEL_HEIGHT + HEAD_HEIGHT
    figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.3 / width, 1 - 0.14 / height, title, fontsize=14, weight="bold", color=TEXT, va="top")
    handles = [figure.add_artist(_swatch(colour)) for colour in colours.values()]
    figure.legend(
        handles,
        [f"{split} ({len(videos)} videos)" for split, videos in splits.items()],
        loc="upper right",
        bbox_to_anchor=(1 - 0.2 / width, 1 - 0.08 / height),
        ncols=len(splits),
        frameon=False,
        fontsize=9,
        labelcolor=TEXT,
        handlelength=1.2,
        columnspacing=1.4,
    )
    for number, panel in enumerate(panels):
        row, column = divmod(number, COLUMNS)
        axes = figure.add_axes(
            (
                (column * PANEL_WIDTH + 0.55) / width,
                (height - HEAD_HEIGHT - (row + 1) * PANEL_HEIGHT + 0.35) / height,
                (PANEL_WIDTH - 0.75) / width,
                (PANEL_HEIGHT - 0.72) / height,
            )
        )
        _style(axes)
        panel(axes)
    return figure


def _panels(splits: Mapping[str, Videos], colours: Mapping[str, str]) -> list[Panel]:
    labelled = {split: videos for split, videos in splits.items() if "moments" in videos[0]["queries"][0]}
    times = {split: moment_times(videos) for split, videos in labelled.items()}
    queries = {split: [query for video in videos for query in video["queries"]] for split, videos in splits.items()}

    def histogram(title: str, values: Mapping[str, Sequence[float] | np.ndarray], **options: Any) -> Panel:
        return lambda axes: _draw_histogram(axes, title, values, colours, **options)

    panels = [
        histogram("duration of a video, s", {s: [v["duration"] for v in videos] for s, videos in splits.items()}),
        histogram("queries of a video", {s: [len(v["queries"]) for v in v_] for s, v_ in splits.items()}, whole=True),
        histogram(
            "words of a sentence",
            {s: [len(split_words(q["sentence"])) for q in q_] for s, q_ in queries.items()},
            whole=True,
        ),
        lambda axes: _draw_words(axes, next(iter(splits)), next(iter(splits.values())), next(iter(colours.values()))),
    ]
    if labelled:
        panels += [
            histogram("length of a moment, s", {s: np.diff(seconds)[:, 0] for s, (seconds, _) in times.items()}),
            histogram("length of a moment / duration", {s: np.diff(x)[:, 0] for s, (_, x) in times.items()}, top=1.0),
        ]
        counts = {split: [len(query["moments"]) for query in queries[split]] for split in labelled}
        if any(max(count) > 1 for count in counts.values()):
            panels.append(histogram("moments of a query", counts, whole=True))
        sums = {
            s: [sum(clip) for q in queries[s] for clip in q["grades"]] for s in labelled if "grades" in queries[s][0]
        }
        if sums:
            panels.append(histogram("sum of a clip's grades", sums, whole=True))
    for split, (_, shares) in times.items():
        panels.append(partial(_draw_places, split=split, shares=shares, colour=colours[split]))
    return panels


def _style(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(labelsize=7.5, labelcolor=QUIET, color=LINE)


def _draw_histogram(
    axes: Any,
    title: str,
    values: Mapping[str, Sequence[float] | np.ndarray],
    colours: Mapping[str, str],
    whole: bool = False,
    top: float | None = None,
) -> None:
    """Shares of each split in bins; few long values share the last bin, so that the others can be told apart."""
    together = np.concatenate([np.asarray(part, dtype=np.float64) for part in values.values()])
    low, high = float(together.min()), float(together.max())
    if top is not None:
        high = top
    elif high > LONG_TAIL * np.quantile(together, 0.995):
        high = float(np.quantile(together, 0.995))
    if whole:
        step = max(1, round((high - low) / 24))
        bins = np.arange(low - 0.5, high + step + 0.5, step)
    else:
        low = 0.0 if low < high / 3 else low
        bins = np.linspace(low, high if high > low else low + 1, 25)
    for split, part in values.items():
        heights = np.histogram(np.clip(part, bins[0], bins[-1]), bins)[0] / len(part) * 100
        axes.stairs(heights, bins, color=colours[split], lw=1.4)
        axes.stairs(heights, bins, color=colours[split], fill=True, alpha=0.12, lw=0)
    axes.set_title(title, fontsize=9, color=TEXT, loc="left")
    axes.yaxis.set_major_formatter("{x:g} %")
    axes.yaxis.set_major_locator(_few_ticks())
    axes.xaxis.set_major_locator(_few_ticks(5, integer=whole))
    axes.set_xlim(bins[0], bins[-1])
    if together.max() > bins[-1]:
        axes.annotate(
            f"up to {together.max():.0f} in the last",
            (1, 1),
            xycoords="axes fraction",
            ha="right",
            va="top",
            fontsize=7,
            color=QUIET,
        )


def _draw_words(axes: Any, split: str, videos: Videos, colour: str) -> None:
    words = {word: count for word, count in count_words(videos).items() if word not in STOP_WORDS}
    frequent = list(words.items())[:FREQUENT_WORDS]
    axes.barh(range(len(frequent)), [count for _, count in frequent], color=colour, height=0.7)
    axes.set_yticks(range(len(frequent)), [word for word, _ in frequent])
    axes.tick_params(axis="y", length=0, labelsize=7, pad=1, labelcolor=TEXT)
    axes.set_ylim(len(frequent) - 0.4, -0.6)
    axes.xaxis.set_major_locator(_few_ticks(3))
    axes.set_title(f"content words, {split}", fontsize=9, color=TEXT, loc="left")


def _draw_places(axes: Any, split: str, shares: np.ndarray, colour: str) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    density, edges, _ = np.histogram2d(shares[:, 0], shares[:, 1], bins=HEAT_BINS, range=[[0, 1], [0, 1]])
    tints = LinearSegmentedColormap.from_list(split, ["#ffffff", colour, "#10131a"])
    # A root keeps rare places visible beside the usual ones.
    axes.pcolormesh(edges, edges, np.sqrt(density.T), cmap=tints)
    axes.plot([0, 1], [0, 1], color=LINE, lw=0.8)
    axes.set_xticks([0, 0.5, 1], ["0", "start", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "end", "1"])
    axes.set_title(f"start and end, {split}", fontsize=9, color=TEXT, loc="left")


def _few_ticks(count: int = 4, integer: bool = False) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(count, integer=integer)


def _swatch(colour: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((0, 0), 0, 0, color=colour)
