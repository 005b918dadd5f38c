# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Draws what the benchmarks of the kernels saved: bars per backend, groups per size, time and peak memory.

python -m bench.plot_kernels RESULTS.json kernels.png [--dtype float16]
"""

import argparse
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bench.kernel_results import Result, baselines, by_backend, read_results
from mesm_plugin.visualization.figure_file import save_figure

# What a column of panels shows: its title, passes, attribute of a result, factor to the unit of the title.
COLUMNS = (
    ("forward, ms", "forward", "seconds", 1e3),
    ("forward + backward, ms", "forward + backward", "seconds", 1e3),
    ("peak memory of forward + backward, MB", "forward + backward", "peak_bytes", 1e-6),
)
COLOURS = {
    "reference": "#7b8794",
    "sdpa": "#3b5bdb",
    "compiled": "#2f9e62",
    "triton": "#e8590c",
    "packed reference": "#bcc4cd",
    "packed triton": "#f7a072",
    "two modules": "#1f2933",
    "two modules, no weights": "#8a63d2",
}
TEXT, QUIET = "#1f2933", "#7b8794"
INCHES = (13.0, 2.4)
BAR = 0.84


def draw(results: list[Result], dtype: str, environment: dict[str, str | int]) -> Figure:
    """Draws the results of one dtype: a row of panels per operation.

    The height of a bar is its share of the first backend, the number over it the measurement. Where the first backend
    was not measured, as it needs too much memory, only numbers are written.

    Args:
        results: Measurements.
        dtype: "float32", ...
        environment: What they depend on, for the caption.

    Returns:
        A figure of its own, unknown to pyplot.

    Raises:
        ValueError: There is no result of that dtype.
    """
    results = [result for result in results if result.dtype == dtype]
    if not results:
        raise ValueError(f"there is no result in {dtype}")
    operations = list(dict.fromkeys(result.operation for result in results))
    figure = Figure(
        figsize=(INCHES[0], INCHES[1] * len(operations) + 0.8), dpi=130, facecolor="white", layout="constrained"
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(operations), len(COLUMNS), squeeze=False)
    for row, operation in enumerate(operations):
        own = [result for result in results if result.operation == operation]
        for column, (title, passes, attribute, scale) in enumerate(COLUMNS):
            axes = panels[row, column]
            first = baselines(own)[operation]
            _draw_bars(axes, [x for x in own if x.passes == passes], first, attribute, scale)
            axes.set_title(f"{operation}\n{title}", fontsize=9, color=TEXT, loc="left")
            axes.set_ylabel(f"share of {first}", fontsize=7.5, color=QUIET)
    drawn = [backend for backend in COLOURS if any(result.backend == backend for result in results)]
    handles = [Patch(color=COLOURS[backend], label=backend) for backend in drawn]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(drawn), frameon=False, fontsize=9)
    device = environment["device"]
    if device == "cpu":
        device = f"{environment['cpu']}, {environment['threads']} thread(s)"
    versions = f"PyTorch {environment['torch']}, Triton {environment['triton']}"
    timing = f"shortest of the rounds by {environment['timer']}"
    figure.supxlabel(f"{dtype} on {device}; {versions}; {timing}", fontsize=8, color=QUIET)
    return figure


def _draw_bars(axes: Axes, results: list[Result], first: str, attribute: str, scale: float) -> None:
    """Fills a panel with a group of bars per size, as shares of the backend `first`."""
    groups = by_backend(results)
    width = BAR / max((len(group) for group in groups.values()), default=1)
    for place, group in enumerate(groups.values()):
        values = {
            backend: getattr(result, attribute) for backend, by_passes in group.items() for result in by_passes.values()
        }
        for number, (backend, value) in enumerate(values.items()):
            x = place + (number - (len(values) - 1) / 2) * width
            share = value / values[first] if first in values else 0.0
            axes.bar(x, share, width * 0.92, color=COLOURS[backend])
            label = f"{value * scale:#.2g}" if value * scale < 10 else f"{value * scale:.0f}"
            if first not in values:
                label = f"{backend}\n{label}"
            axes.annotate(label, (x, share), (0, 1), textcoords="offset points", ha="center", fontsize=5.5, color=TEXT)
    axes.margins(x=0.02, y=0.08)
    names = [case.replace(" ", "\n", 1) for _, case, _ in groups]
    axes.set_xticks(range(len(groups)), names, fontsize=7, color=TEXT)
    axes.tick_params(axis="y", labelsize=7, colors=QUIET)
    axes.tick_params(axis="both", length=0)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="JSON file of `pytest bench --benchmark-only`")
    parser.add_argument("picture", type=Path, help="file to draw to")
    parser.add_argument("--dtype", default="float32", help="dtype whose results are drawn")
    arguments = parser.parse_args()
    try:
        results, environment = read_results(arguments.results)
        save_figure(draw(results, arguments.dtype, environment), arguments.picture)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
