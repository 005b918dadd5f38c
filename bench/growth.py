# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Measures and draws how time and memory grow with the sizes of a batch.

python -m bench.growth --out FOLDER

MESM at its Charades-STA settings for CLIP and SlowFast, random features; one size is doubled at a time, the others stay
those of `BASE`. A training step is forward, losses and backward. Time is that of the processor (all threads, the least
of the repeats), so that other processes matter little; memory is the most that tensors take beyond the weights and the
batch. Writes growth.json and growth.png. The exponent is the slope between the last two points in logarithms: 1 =
linear, 2 = quadratic.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.arguments import positive
from bench.peak_memory import peak_memory
from bench.workloads import WORKLOADS, Workload
from mesm_plugin.registry import MODELS
from mesm_plugin.utils import write_json
from mesm_plugin.visualization.figure_file import save_figure

CPU = torch.device("cpu")
BASE = replace(WORKLOADS["charades-clip-slowfast"], videos=4, queries=16, even=True, clips=(64, 64), words=(12, 12))
SIZES: dict[str, tuple[int, ...]] = {
    "queries per video": (2, 4, 8, 16),
    "clips": (64, 128, 256, 512),
    "words": (8, 16, 32, 64),
    "videos": (2, 4, 8, 16),
    "N of the contrastive loss": (256, 512, 1024, 2048, 4096),
}
COLOURS = {"training step": "#e8590c", "inference": "#3b5bdb", "contrastive loss": "#e8590c"}


@dataclass(frozen=True)
class Point:
    """A measurement.

    Attributes:
        axis: Which size grows, a key of `SIZES`.
        size: Its value.
        what: "training step", "inference" or "contrastive loss".
        seconds: Processor time.
        peak_bytes: Most memory of tensors.
    """

    axis: str
    size: int
    what: str
    seconds: float
    peak_bytes: int


def workload_of(axis: str, size: int) -> Workload:
    """`BASE` with one size changed."""
    if axis == "queries per video":
        return replace(BASE, queries=BASE.videos * size)
    if axis == "clips":
        return replace(BASE, clips=(size, size))
    if axis == "words":
        return replace(BASE, words=(size, size))
    return replace(BASE, videos=size, queries=BASE.queries // BASE.videos * size)


def measure_network(axis: str, sizes: Sequence[int], repeat: int) -> list[Point]:
    """Training step and inference at each size."""
    torch.manual_seed(0)
    model = MODELS.build(BASE.model_config())
    points = []
    for size in sizes:
        for training in (True, False):
            model.train(training)
            batch = model.data_preprocessor(workload_of(axis, size).batch(training))

            def run(batch: dict[str, Any] = batch, training: bool = training) -> Any:
                if not training:
                    with torch.inference_mode():
                        return model(**batch, mode="predict")
                torch.stack(list(model(**batch, mode="loss").values())).sum().backward()
                # A run begins without gradients, so that their memory is counted once.
                model.zero_grad()
                return None

            what = "training step" if training else "inference"
            points.append(Point(axis, size, what, processor_seconds(run, repeat), peak_memory(run, CPU)))
    return points


def measure_loss(axis: str, sizes: Sequence[int], repeat: int) -> list[Point]:
    """The contrastive loss of N sentences and segments of 256 channels, forward and backward, N / 4 source videos."""
    loss = MODELS.build({"type": "IoUContrastiveLoss", "gather": False})
    points = []
    for size in sizes:
        torch.manual_seed(0)
        words, segment = torch.randn(size, 4, 256, requires_grad=True), torch.randn(size, 256, requires_grad=True)
        mask = torch.ones(size, 4, dtype=torch.bool)
        moments = torch.rand(size, 2).sort(dim=1).values
        source = torch.arange(size) // 4

        def run(
            words: torch.Tensor = words,
            mask: torch.Tensor = mask,
            segment: torch.Tensor = segment,
            moments: torch.Tensor = moments,
            source: torch.Tensor = source,
        ) -> None:
            loss(words, mask, segment, moments, source).backward()
            words.grad = segment.grad = None

        points.append(Point(axis, size, "contrastive loss", processor_seconds(run, repeat), peak_memory(run, CPU)))
    return points


def processor_seconds(run: Callable[[], Any], repeat: int) -> float:
    """Least processor time of `repeat` runs after one that is not counted."""
    run()
    seconds = []
    for _ in range(repeat):
        begin = time.process_time()
        run()
        seconds.append(time.process_time() - begin)
    return min(seconds)


def exponent(points: Sequence[Point], attribute: str) -> float:
    """Slope between the last two points in logarithms."""
    one, two = points[-2:]
    return math.log(getattr(two, attribute) / getattr(one, attribute)) / math.log(two.size / one.size)


def curves_of(points: Sequence[Point]) -> dict[tuple[str, str], list[Point]]:
    """Points by axis and by what was measured, in order of size."""
    curves: dict[tuple[str, str], list[Point]] = {}
    for point in sorted(points, key=lambda point: point.size):
        curves.setdefault((point.axis, point.what), []).append(point)
    return curves


def draw(points: Sequence[Point]) -> Figure:
    """Draws a column of panels per axis, time above memory, both in logarithms, with the exponents."""
    axes_names = list(dict.fromkeys(point.axis for point in points))
    figure = Figure(figsize=(3.2 * len(axes_names), 5.6), dpi=90, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, len(axes_names), squeeze=False)
    for (axis, what), curve in curves_of(points).items():
        column = axes_names.index(axis)
        for row, (attribute, scale) in enumerate((("seconds", 1.0), ("peak_bytes", 2**-20))):
            panel = panels[row, column]
            label = f"{what}, exponent {exponent(curve, attribute):.2f}"
            values = [getattr(point, attribute) * scale for point in curve]
            sizes = [point.size for point in curve]
            panel.loglog(sizes, values, "o-", color=COLOURS[what], label=label, markersize=4)
            panel.set_xticks(sizes, [str(size) for size in sizes], fontsize=7)
            panel.minorticks_off()
            panel.set_xlabel(axis, fontsize=9)
            panel.set_ylabel(("processor time, s", "memory of tensors, MiB")[row], fontsize=8)
            panel.legend(fontsize=7, frameon=False)
            panel.grid(color="#e4e7eb", linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
    return figure


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints the exponents and writes numbers and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for growth.json and growth.png")
    parser.add_argument("--repeat", type=positive, default=3, help="measured runs of a size (default: 3)")
    args = parser.parse_args(argv)
    points = []
    for axis, sizes in SIZES.items():
        measure = measure_loss if axis == "N of the contrastive loss" else measure_network
        points += measure(axis, sizes, args.repeat)
    exponents = []
    for (axis, what), curve in curves_of(points).items():
        of_time, of_memory = exponent(curve, "seconds"), exponent(curve, "peak_bytes")
        exponents.append({"axis": axis, "what": what, "seconds": of_time, "peak_bytes": of_memory})
        print(f"{axis}, {what}: time grows with exponent {of_time:.2f}, memory with {of_memory:.2f}")
    args.out.mkdir(parents=True, exist_ok=True)
    content = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "points": [asdict(point) for point in points],
        "exponents": exponents,
    }
    write_json(args.out / "growth.json", content)
    save_figure(draw(points), args.out / "growth.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
