# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Reads thousands of broken files of each kind: `python -m tests.fuzz.trial --files 10000`."""

import argparse
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.file_kind import BadReading, FileKind, mutation_seed

CHUNK = 2500
MEMORY = 8 * 2**30
# What a part ends with if it found bad readers; Python itself ends with 1 after errors of the trial.
FOUND = 3


def read_broken_files(kind: FileKind, numbers: range, seed: int, folder: Path) -> tuple[int, int, list[str]]:
    """Breaks a good file of a kind again and again, and reads it.

    Returns:
        How many were accepted, how many refused, and what is wrong with how others were read; their files stay.
    """
    place = folder / kind.name
    place.mkdir(parents=True)
    file = kind.write(place)
    good = file.read_bytes()
    assert kind.check(file) is None, "the good file is refused"
    accepted = refused = 0
    failures = []
    for number in numbers:
        file.write_bytes(kind.mutate(good, random.Random(mutation_seed(kind.name, seed, number))))
        print(f"\r{kind.name} {number}", end="", file=sys.stderr)
        try:
            if kind.check(file) is None:
                accepted += 1
            else:
                refused += 1
        except BadReading as error:
            kept = folder / f"{kind.name}_{number}_{file.name}"
            shutil.copy(file, kept)
            failures.append(f"{kind.name} {number} ({kept}): {error}")
    return accepted, refused, failures


def main() -> int:
    """Runs the trial; every part in a process of its own, as a library may crash."""
    from tests.fuzz.kinds import KINDS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000, help="broken files of each kind")
    parser.add_argument("--kind", nargs="+", choices=[kind.name for kind in KINDS], help="only these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="only the file of this number")
    parser.add_argument("--part", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    kinds = [kind for kind in KINDS if args.kind is None or kind.name in args.kind]
    if args.part is not None or args.only is not None:
        numbers = range(*args.part) if args.part is not None else range(args.only, args.only + 1)
        return _read_part(kinds, numbers, args.seed)
    failed = False
    for kind in kinds:
        begin = time.monotonic()
        for first in range(0, args.files, CHUNK):
            part = [str(first), str(min(first + CHUNK, args.files))]
            command = [sys.executable, "-m", "tests.fuzz.trial", "--kind", kind.name, "--seed", str(args.seed)]
            done = subprocess.run([*command, "--part", *part], stderr=subprocess.PIPE, text=True)
            if done.returncode not in (0, FOUND):
                print(f"{kind.name} {' to '.join(part)}: ended with {done.returncode} at {done.stderr[-2000:]}")
            failed |= done.returncode != 0
        print(f"{kind.name}: {args.files} files, {time.monotonic() - begin:.0f} s", flush=True)
    return int(failed)


def _read_part(kinds: list[FileKind], numbers: range, seed: int) -> int:
    import torch  # its libraries take address space that the limit is not for

    torch.set_num_threads(1)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY,) * 2)
    code = 0
    for kind in kinds:
        folder = Path(tempfile.mkdtemp(prefix="broken_files_"))
        accepted, refused, failures = read_broken_files(kind, numbers, seed, folder)
        print(f"{kind.name} {numbers[0]} to {numbers[-1]}: {accepted} accepted, {refused} refused", flush=True)
        for failure in failures[:20]:
            print(failure)
        if failures:
            print(f"{len(failures)} failures")
            code = FOUND
        else:
            shutil.rmtree(folder)
    return code


if __name__ == "__main__":
    sys.exit(main())
