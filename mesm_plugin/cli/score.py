# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm score`."""

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to `parser`."""
    parser.add_argument("submission", metavar="SUBMISSION", help="predictions as JSON Lines, of any code base")
    parser.add_argument(
        "annotations",
        metavar="ANNOTATIONS",
        nargs="+",
        help="published annotation file of the split (.jsonl, .json or .txt); several are scored apart",
    )
    parser.add_argument("--durations", metavar="FILE", help="of Charades-STA's videos (default: the .csv beside it)")
    for name, default in (("r1", (0.1, 0.3, 0.5, 0.7)), ("r5", (0.5, 0.7)), ("map", (0.5, 0.75))):
        title = {"r1": "R1", "r5": "R5", "map": "mAP"}[name]
        shown = " ".join(map(str, default))
        parser.add_argument(
            f"--{name}", metavar="IOU", type=float, nargs="*", default=default, help=f"for {title} (default {shown})"
        )
    parser.add_argument("--json", metavar="FILE", help="write the scores as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the scores of a submission."""
    from mesm_plugin.apis.score_files import score_files
    from mesm_plugin.cli.score_table import score_table
    from mesm_plugin.utils import write_json

    thresholds = {"r1_thresholds": args.r1, "r5_thresholds": args.r5, "map_thresholds": args.map}
    scored = score_files(args.submission, args.annotations, args.durations, **thresholds)
    if scored.notice:
        print(scored.notice)
    for name, values in scored.scores.items():
        print(f"\nScores of {args.submission} on {name} ({scored.queries[name]} queries):\n{score_table(values)}")
    if args.json is not None:
        content: Any = scored.scores if len(scored.scores) > 1 else next(iter(scored.scores.values()))
        write_json(args.json, content)
        print(f"JSON: {args.json}")
    return 0
