# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Trains in float32 and under autocast to bfloat16 from the same seeds and compares the scores.

python -m bench.mixed_precision --seeds 0 1 2 --json result.json

Each run is `mesm train`, without and with `--amp`, in a process of its own; its scores are those of `metrics.json`: of
the best checkpoint on the validation split, on the test split, where the network runs in float32 in both cases. A score
agrees if the difference of the two means is not above the spread of float32, its highest less its lowest value over
the seeds. Ends with 1 if one does not.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from mmengine.device import get_device

from bench.environment import environment
from mesm_plugin.cli.compare import SHOWN
from mesm_plugin.engine.run_comparison import Run, read_run
from mesm_plugin.utils import write_json

PRECISIONS = {"float32": (), "bfloat16": ("--amp", "bfloat16")}


@dataclass(frozen=True)
class Comparison:
    """A score in both precisions.

    Attributes:
        float32: A value a seed.
        bfloat16: The same with autocast.
        difference: Mean of bfloat16 less that of float32.
        spread: Highest less lowest value of float32.
        agrees: Whether the difference is at most the spread, in either direction.
    """

    float32: Sequence[float]
    bfloat16: Sequence[float]
    difference: float
    spread: float
    agrees: bool


def train(config: str, precision: str, seed: int, epochs: int | None, device: str, work_dir: Path) -> Run:
    """Trains and scores in a process of its own.

    Args:
        config: Path of a config, or the name of a shipped one.
        precision: A key of `PRECISIONS`.
        seed: Of everything random.
        epochs: None = those of the config.
        device: "cpu" hides the GPUs.
        work_dir: Of the run.

    Raises:
        RuntimeError: It failed; with the end of what it printed.
    """
    command = ["train", config, "--work-dir", str(work_dir), "--seed", str(seed), *PRECISIONS[precision]]
    if epochs is not None:
        command += ["--cfg-options", f"train_cfg.max_epochs={epochs}"]
    done = subprocess.run(
        [sys.executable, "-m", "mesm_plugin.cli.main", *command],
        env=os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"mesm {' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return read_run(work_dir)


def compare(name: str, runs: dict[str, list[Run]]) -> Comparison:
    """A score of the runs of both precisions.

    Raises:
        ValueError: It is not finite in a run.
    """
    values = {precision: [run.scores[name] for run in of_precision] for precision, of_precision in runs.items()}
    float32, bfloat16 = ([x for x in values[precision] if x is not None] for precision in PRECISIONS)
    if len(float32) < len(values["float32"]) or len(bfloat16) < len(values["bfloat16"]):
        raise ValueError(f"{name} is not finite in each run, so there is no mean to compare: {values}")
    difference = statistics.mean(bfloat16) - statistics.mean(float32)
    spread = max(float32) - min(float32)
    return Comparison(float32, bfloat16, difference, spread, abs(difference) <= spread)


def show(name: str, comparison: Comparison) -> None:
    """Prints a row of the table."""
    cells = [
        f"{statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"
        for values in (comparison.float32, comparison.bfloat16)
    ]
    verdict = "yes" if comparison.agrees else "NO"
    print(f"| {name} | {' | '.join(cells)} | {comparison.difference:+.2f} | {comparison.spread:.2f} | {verdict} |")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table, and writes it as JSON; 1 if a score does not agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="mesm_synthetic", help="default: mesm_synthetic, the quick start")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="two or more (default: 0 1 2)")
    parser.add_argument("--epochs", type=int, help="default: those of the config")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU if there is one")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    args = parser.parse_args(argv)
    if len(set(args.seeds)) < max(2, len(args.seeds)):
        parser.error(f"--seeds must be two or more different ones, as their spread is the measure, got {args.seeds}")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda, but PyTorch finds no GPU; leave it out to train on the CPU")
    device = args.device or get_device()
    runs: dict[str, list[Run]] = {precision: [] for precision in PRECISIONS}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in args.seeds:
            for precision in PRECISIONS:
                folder = Path(scratch) / f"{precision}-seed{seed}"
                run = train(args.config, precision, seed, args.epochs, device, folder)
                runs[precision].append(run)
                print(f"seed {seed}, {precision}: {run.scores}", flush=True)
    known = runs["float32"][0].scores
    compared = {name: compare(name, runs) for name in [name for name in SHOWN if name in known] or known}
    print("| score | float32 | bfloat16 | difference | spread of float32 | within |\n|---|---|---|---|---|---|")
    for name, comparison in compared.items():
        show(name, comparison)
    if args.json is not None:
        content = {
            "config": args.config,
            "seeds": args.seeds,
            "epochs": args.epochs,
            "device": device,
            "environment": environment(),
            "scores": {name: asdict(comparison) for name, comparison in compared.items()},
        }
        write_json(args.json, content)
    return 0 if all(comparison.agrees for comparison in compared.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
