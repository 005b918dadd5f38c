# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Runs two revisions in turn in one session and prints how many times as fast the second one is.

python -m bench.compare BASE HEAD --workload charades-clip-slowfast --rounds 5

BASE and HEAD are revisions of git, such as main or a commit; without HEAD, the files of this checkout as they are. Each
is copied to a folder of its own, and in every round both are measured by the `bench.end_to_end` of this checkout, each
in a new process, the first one in one round being the second one in the next. So what else the machine does meets both.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.arguments import positive
from bench.workloads import WORKLOADS
from mesm_plugin.utils import write_json

ROOT = Path(__file__).parents[1]
FILES_AS_THEY_ARE = "."
# setup.py maps these into the package.
MAPPED = ("registry", "kernels", "configs")
METRICS = {"train_step_s": "training step, s", "inference_s": "inference, s", "peak_rss_mb": "peak memory, MB"}


def copy_revision(revision: str, folder: Path, root: Path = ROOT) -> None:
    """Copies the files of a revision, with the package as it is installed, and the benchmarks of this checkout.

    Args:
        revision: Name that git knows, or "." for the files as they are.
        folder: To copy to; it is made.
        root: The checkout.

    Raises:
        ValueError: git does not know the revision, or it is none of this package.
    """
    folder.mkdir()
    if revision == FILES_AS_THEY_ARE:
        listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
        for name in filter(None, listed.decode().split("\0")):
            if (root / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / name, folder / name)
    else:
        archive = _git(root, "archive", revision).stdout
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    if not (folder / "mesm_plugin").is_dir():
        raise ValueError(f"revision {revision!r} has no folder mesm_plugin")
    for name in MAPPED:
        shutil.copytree(folder / name, folder / "mesm_plugin" / name)
    shutil.rmtree(folder / "bench", ignore_errors=True)
    shutil.copytree(ROOT / "bench", folder / "bench")


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True)
    if done.returncode:
        raise ValueError(f"git {' '.join(arguments)}: {done.stderr.decode(errors='replace').strip()}")
    return done


def measure(folder: Path, workload: str, repeat: int, command: Sequence[str] = ("bench.end_to_end",)) -> dict[str, Any]:
    """What a benchmark finds in a process of its own.

    Args:
        folder: Of `copy_revision`, or a checkout.
        workload: Its name.
        repeat: Measured runs.
        command: The benchmark's module and its own arguments.

    Raises:
        RuntimeError: It failed; with the end of what it printed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "result.json"
        options = ["--workload", workload, "--repeat", str(repeat), "--json", str(file)]
        done = subprocess.run(
            [sys.executable, "-m", *command, *options],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed in {folder}:\n{done.stderr[-2000:]}")
        return json.loads(file.read_text(encoding="utf-8"))


def ratios(base: Sequence[dict[str, Any]], head: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Both results of all rounds by metric.

    Returns:
        The medians `base` and `head`, `ratio`, base / head of the medians, and the `lowest` and `highest` ratio of a
        round: above 1, the second revision takes less.
    """
    compared = {}
    for metric in METRICS:
        ours, theirs = [result[metric] for result in head], [result[metric] for result in base]
        of_rounds = [one / other for one, other in zip(theirs, ours, strict=True)]
        medians = statistics.median(theirs), statistics.median(ours)
        compared[metric] = {
            "base": medians[0],
            "head": medians[1],
            "ratio": medians[0] / medians[1],
            "lowest": min(of_rounds),
            "highest": max(of_rounds),
        }
    return compared


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table, and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", metavar="BASE", help="revision to compare with")
    parser.add_argument("head", metavar="HEAD", nargs="?", default=FILES_AS_THEY_ARE, help="default: files as they are")
    parser.add_argument("--workload", choices=WORKLOADS, nargs="+", default=["charades-clip-slowfast"])
    args = parse_rounds(parser, argv, rounds=5)
    compared = {}
    with tempfile.TemporaryDirectory() as scratch:
        folders = {"base": Path(scratch) / "base", "head": Path(scratch) / "head"}
        try:
            for name, folder in folders.items():
                copy_revision(getattr(args, name), folder)
        except ValueError as error:
            parser.error(str(error))
        for workload in args.workload:

            def run(side: str, workload: str = workload) -> dict[str, Any]:
                return measure(folders[side], workload, args.repeat)

            try:
                compared[workload] = ratios(**in_turn(run, args.rounds))
            except RuntimeError as error:
                print(error, file=sys.stderr)
                return 1
            show(workload, (args.base, args.head), args.rounds, compared[workload])
    write(compared, args.json)
    return 0


def parse_rounds(parser: argparse.ArgumentParser, argv: Sequence[str] | None, rounds: int) -> argparse.Namespace:
    """Adds --rounds, --repeat and --json to the parser, and parses."""
    parser.add_argument(
        "--rounds", type=positive, default=rounds, help=f"how often each is measured (default: {rounds})"
    )
    parser.add_argument("--repeat", type=positive, default=3, help="measured runs of a round (default: 3)")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    return parser.parse_args(argv)


def in_turn(run: Callable[[str], dict[str, Any]], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Results of "base" and "head" of all rounds; who was first in one round is second in the next."""
    results: dict[str, list[dict[str, Any]]] = {"base": [], "head": []}
    for number in range(rounds):
        for side in ("base", "head") if number % 2 == 0 else ("head", "base"):
            results[side].append(run(side))
    return results


def write(compared: dict[str, Any], file: Path | None) -> None:
    """Writes the comparisons by workload as JSON, if there is a file for them."""
    if file is not None:
        write_json(file, compared)


def show(workload: str, names: tuple[str, str], rounds: int, compared: dict[str, dict[str, float]]) -> None:
    """Prints what `ratios` returned for two named sides."""
    print(f"{workload}, medians of {rounds} rounds")
    print(f"{'':20}{names[0][:12]:>12}{names[1][:12]:>12}   first / second (rounds)")
    for metric, row in compared.items():
        print(
            f"{METRICS[metric]:20}{row['base']:12.3f}{row['head']:12.3f}   {row['ratio']:.2f} "
            f"({row['lowest']:.2f} to {row['highest']:.2f})"
        )


if __name__ == "__main__":
    sys.exit(main())
