# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm compare`."""

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesm_plugin.engine.run_comparison import Group

SHOWN = ("R1@0.3", "R1@0.5", "R1@0.7", "mIoU", "mAP@0.5", "mAP@0.75", "mAP")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to `parser`."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="work directory of a finished training")
    parser.add_argument(
        "--scores", metavar="NAME", nargs="+", help=f"which scores (default: of {' '.join(SHOWN)} those there are)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the same as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints a table of runs: scores, over seeds their mean and spread, and the settings that differ."""
    from mesm_plugin.engine.run_comparison import differing_settings, group_runs, read_run
    from mesm_plugin.utils import write_json

    if len(set(args.runs)) < len(args.runs):
        raise ValueError("a run is named twice")
    groups = group_runs([read_run(folder) for folder in args.runs])
    known = dict.fromkeys(name for group in groups for run in group.runs for name in run.scores)
    unknown = [name for name in args.scores or () if name not in known]
    if unknown:
        raise ValueError(f"no run has the score {unknown[0]!r}; there are {', '.join(known)}")
    scores = args.scores or [name for name in SHOWN if name in known] or list(known)
    settings = differing_settings(groups)
    print(_table(groups, scores))
    if any(len(group.runs) > 1 for group in groups):
        print("Mean ± standard deviation over the runs of a row (of a sample: divided by their number - 1)")
    data = dict.fromkeys(group.runs[0].data for group in groups)
    print("\n" + "\n".join(f"Scores on the {name}" for name in data))
    if len(data) > 1:
        print("The runs are scored on different data: their scores cannot be compared.")
    if settings:
        print("\nSettings that differ:")
        for key, values in settings.items():
            print(f"  {key}: " + " | ".join(map(_shown, values)))
    if args.json is not None:
        content = {
            "runs": [
                {
                    "names": [run.name for run in group.runs],
                    "seeds": [run.seed for run in group.runs],
                    "data": group.runs[0].data,
                    "scores": {name: group.values(name) for name in scores},
                }
                for group in groups
            ],
            "settings": settings,
        }
        # A setting may be infinite.
        write_json(args.json, content, allow_nan=True)
        print(f"JSON: {args.json}")
    return 0


def _table(groups: "Sequence[Group]", scores: Sequence[str]) -> str:
    rows = [["run", "seeds", *scores]]
    for group in groups:
        names = ", ".join(run.name for run in group.runs)
        seeds = ", ".join("-" if run.seed is None else str(run.seed) for run in group.runs)
        rows.append([names, seeds, *map(group.text, scores)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
