# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm submission`."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to `parser`."""
    parser.add_argument("val", metavar="VAL.jsonl", help="predictions of the validation split, from `mesm test --out`")
    parser.add_argument("test", metavar="TEST.jsonl", help="predictions of the test split")
    parser.add_argument("--out", metavar="FILE.zip", default="submission.zip", help="the archive (submission.zip)")


def run(args: argparse.Namespace) -> int:
    """Packs the predictions of both splits for QVHighlights' evaluation server."""
    from mesm_plugin.evaluation.server_archive import NAMES, write_server_archive

    counts = write_server_archive(args.val, args.test, args.out)
    print(f"{args.out}: " + ", ".join(f"{NAMES[split]} ({count} queries)" for split, count in counts.items()))
    return 0
