# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm submission`."""

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to `parser`."""
    parser.add_argument("val", metavar="VAL.jsonl", help="predictions of the validation split, from `mesm test --out`")
    parser.add_argument("test", metavar="TEST.jsonl", help="predictions of the test split")
    parser.add_argument("--out", metavar="FILE.zip", default="submission.zip", help="the archive (submission.zip)")


def run(args: argparse.Namespace) -> int:
    """Packs the predictions of both splits for QVHighlights' evaluation server."""
    from mesm_plugin.evaluation.server_archive import NAMES, PUBLISHED_QUERIES, write_server_archive

    counts = write_server_archive(args.val, args.test, args.out)
    print(f"{args.out}: " + ", ".join(f"{NAMES[split]} ({count} queries)" for split, count in counts.items()))
    for split, count in counts.items():
        if count != PUBLISHED_QUERIES[split]:
            message = f"{NAMES[split]} has {count} queries, but the {split} split {PUBLISHED_QUERIES[split]}"
            print(f"warning: {message}; the server scores whole splits, val and then test", file=sys.stderr)
    return 0
