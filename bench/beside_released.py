# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Measures this package and the code that MESM's authors released in turn, and prints how many times as fast it is.

python -m bench.beside_released FOLDER --workload charades-clip-slowfast --rounds 3

FOLDER is a checkout of github.com/lntzm/MESM. In every round both run on the same batches, each in a new process with
as many threads, the first one in one round being the second one in the next.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.compare import ROOT, measure, ratios, show
from bench.released_step import CONFIGS
from mesm_plugin.utils import atomic_file


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table, and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="checkout of the released code")
    parser.add_argument("--workload", choices=CONFIGS, nargs="+", default=list(CONFIGS))
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is measured (default: 3)")
    parser.add_argument("--repeat", type=int, default=3, help="measured runs of a round (default: 3)")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    args = parser.parse_args(argv)
    for name in ("rounds", "repeat"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(args, name)}")
    if not (args.folder / "runner.py").is_file():
        parser.error(f"{args.folder} has no runner.py: name a checkout of github.com/lntzm/MESM")
    commands = {"released": ("bench.released_step", str(args.folder.resolve())), "here": ("bench.end_to_end",)}
    compared = {}
    for workload in args.workload:
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
        for number in range(args.rounds):
            for name in sorted(commands, reverse=number % 2 == 0):
                results[name].append(measure(ROOT, workload, args.repeat, commands[name]))
        compared[workload] = ratios(results["released"], results["here"])
        show(workload, ("released", "here"), args.rounds, compared[workload])
    if args.json is not None:
        with atomic_file(args.json) as unfinished:
            unfinished.write_text(json.dumps(compared, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
