# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Compiles every form of the Triton kernels that a launch can choose, without a GPU, and reports what became of them.

python -m bench.aot_report --arch sm_86 sm_90 --json report.json

The exit status is 1 where a binary spills registers, needs more shared memory than there is, has atomics, multiplies
matrices without matrix instructions or loads their tiles in narrow pieces. None of this says how fast a kernel is. Nor
does the second table: its times are estimates, and nothing in it was measured.
"""

import argparse
import importlib
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.aot_compile import OPERATIONS, Binary, compile_specialisation
from bench.gpus import GPUS
from bench.roofline import workloads
from mesm_plugin.kernels.specialisation import Specialisation
from mesm_plugin.utils import write_json

Task = tuple[str, Specialisation, str]


def tasks(architectures: Sequence[str], kernel: str, precisions: Sequence[str]) -> list[Task]:
    """What to compile: specialisations whose kernel has `kernel` in its name, of the precisions or of all."""
    return [
        (operation, specialisation, architecture)
        for architecture in architectures
        for operation in OPERATIONS
        for specialisation in importlib.import_module(f"mesm_plugin.kernels.{operation}.operator").specialisations(
            architecture
        )
        if kernel in specialisation.kernel and (not precisions or specialisation.precision in precisions)
    ]


def _prepare(cache: str) -> None:
    """Readies a process, before it imports Triton."""
    os.environ["TRITON_CACHE_DIR"] = cache
    # An interpreted kernel cannot be compiled.
    os.environ.pop("TRITON_INTERPRET", None)


def compile_all(chosen: list[Task], jobs: int, cache: str) -> list[Binary]:
    """Compiles in `jobs` processes, which keep what they compile in the folder `cache`."""
    found = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=_prepare, initargs=(cache,)) as pool:
        for binary in pool.map(compile_specialisation, *zip(*chosen, strict=True)):
            found.append(binary)
            if sys.stderr.isatty():
                print(f"\r{len(found)} of {len(chosen)} compiled", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return found


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns as wide as their longest cell."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_binaries(found: list[Binary]) -> None:
    """A line for each binary."""
    header = (
        "target", "kernel", "precision", "constants", "warps", "stages", "registers", "spills", "shared KiB", "blocks",
        "occupancy", "instructions", "matrix", "atomics", "operand loads",
    )  # fmt: skip
    rows = [
        (
            binary.architecture,
            binary.kernel,
            binary.precision,
            binary.label,
            binary.warps,
            binary.stages,
            binary.registers,
            binary.spills,
            f"{binary.shared / 1024:.0f}/{GPUS[binary.architecture].shared_of_block // 1024}",
            binary.blocks,
            f"{binary.occupancy:.0%}",
            binary.instructions,
            binary.matrix_instructions,
            binary.atomics,
            " ".join(f"{count}x{8 * width}b" for width, count in binary.operand_loads.items()),
        )
        for binary in found
    ]
    print_table(header, rows)


def estimates(architectures: Sequence[str]) -> list[dict[str, Any]]:
    """Work and estimated time of some launches on the GPU of each architecture."""
    return [
        {
            "estimate": True,
            "gpu": GPUS[architecture].name,
            "architecture": architecture,
            "workload": name,
            "kernel": work.specialisation.kernel,
            "bytes": work.bytes,
            "least_bytes": work.least_bytes,
            "flops": work.flops,
            "least_flops": work.least_flops,
            "seconds_at_least": work.seconds(GPUS[architecture]),
        }
        for architecture in architectures
        for name, launches in workloads(architecture, "fp16").items()
        for work in launches
    ]


def print_estimates(found: list[dict[str, Any]]) -> None:
    """A line for each estimate."""
    print("\nEstimates in fp16, nothing of them measured (see bench/roofline.py)")
    rows = [
        (
            row["gpu"],
            row["workload"],
            row["kernel"].rsplit("_", 1)[-1],
            f"{row['bytes'] / 1e6:.2f}",
            f"{row['bytes'] / row['least_bytes']:.2f}",
            f"{row['flops'] / 1e9:.3f}",
            f"{row['flops'] / row['least_flops']:.2f}",
            f"{row['seconds_at_least'] * 1e6:.1f}",
        )
        for row in found
    ]
    header = ("GPU", "workload", "pass", "MB", "of least", "GFLOP", "of least", "estimated us, at least")
    print_table(header, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", choices=GPUS, default=list(GPUS), help="targets; default: all")
    parser.add_argument("--kernel", default="", help="only kernels with this in their name")
    parser.add_argument("--precision", nargs="+", default=[], help="only these precisions")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes; default: one a core")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    parser.add_argument("--cache", type=Path, help="folder of compiled kernels to go on with; default: a new one")
    options = parser.parse_args(arguments)

    chosen = tasks(options.arch, options.kernel, options.precision)
    if not chosen:
        parser.error(f"no kernel has {options.kernel!r} in its name and one of the precisions {options.precision}")
    with tempfile.TemporaryDirectory() as folder:
        found = compile_all(chosen, options.jobs, str(options.cache or folder))
    print_binaries(found)
    estimated = estimates(options.arch)
    print_estimates(estimated)
    if options.json:
        binaries = [{**asdict(binary), "faults": binary.faults()} for binary in found]
        content = {"triton": version("triton"), "binaries": binaries, "estimates": estimated}
        write_json(options.json, content, indent=1)

    faulty = [binary for binary in found if binary.faults()]
    for binary in faulty:
        print(
            f"FAULT {binary.architecture} {binary.kernel} {binary.precision} {binary.label}: "
            + "; ".join(binary.faults())
        )
    print(f"\n{len(found)} binaries, {len(faulty)} with faults, {sum(b.seconds for b in found):.0f} s of compilation")
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main())
