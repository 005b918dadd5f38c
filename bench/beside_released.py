# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Measures this package and the code that MESM's authors released in turn, and prints how many times as fast it is.

python -m bench.beside_released FOLDER --workload charades-clip-slowfast --rounds 3

FOLDER is a checkout of github.com/lntzm/MESM. In every round both run on the same batches, each in a new process with
as many threads, the first one in one round being the second one in the next. `--amp here` runs this package under
autocast to bfloat16, `--amp both` the released code too.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from bench.arguments import released_checkout
from bench.compare import ROOT, in_turn, measure, parse_rounds, ratios, show, write
from bench.released_step import CONFIGS


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table, and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=released_checkout, help="checkout of the released code")
    parser.add_argument("--workload", choices=CONFIGS, nargs="+", default=list(CONFIGS))
    parser.add_argument("--amp", choices=("here", "both"), help="which side runs under autocast to bfloat16")
    args = parse_rounds(parser, argv, rounds=3)
    commands: dict[str, tuple[str, ...]] = {
        "base": ("bench.released_step", str(args.folder.resolve())),
        "head": ("bench.end_to_end",),
    }
    if args.amp is not None:
        for side in ("base", "head") if args.amp == "both" else ("head",):
            commands[side] += ("--amp",)
    compared = {}
    for workload in args.workload:

        def run(side: str, workload: str = workload) -> dict[str, Any]:
            return measure(ROOT, workload, args.repeat, commands[side])

        compared[workload] = ratios(**in_turn(run, args.rounds))
        show(workload, ("released", "here"), args.rounds, compared[workload])
    write(compared, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
