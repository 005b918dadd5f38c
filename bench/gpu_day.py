# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Runs everything that needs a GPU, for whoever has one: tests of the compiled kernels, benchmarks, reports, trainings.

python -m bench.gpu_day

All output goes to one folder, with a summary.md; a step that fails is recorded there and the others go on. The exit
status is 0 where all steps passed, 1 where one failed, and 2 without a GPU.

With --cpu the same steps run on the CPU, the kernels' tests in Triton's interpreter and the benchmarks without Triton:
this tries out all but the GPU.
"""

import argparse
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch

from bench.environment import environment, gpu_architecture
from bench.kernel_results import markdown_table, read_results
from mesm_plugin.kernels.backend import ENVIRONMENT_VARIABLE
from mesm_plugin.utils import atomic_file, write_json

ROOT = Path(__file__).parents[1]
# What the compiler is asked for where there is no GPU.
ARCHITECTURE_WITHOUT_GPU = "sm_86"
WORKLOAD = "charades-clip-slowfast"
RESULTS = "benchmarks.json"

Check = Callable[[Path], str | None]


@dataclass(frozen=True)
class Step:
    """A command to run.

    Attributes:
        name: What to call it.
        arguments: Of Python; run in the root of the repository.
        check: Given the folder of the results, what is wrong with them although the command succeeded, or None.
    """

    name: str
    arguments: tuple[str, ...]
    check: Check = lambda folder: None


@dataclass(frozen=True)
class Outcome:
    """What became of a step.

    Attributes:
        name: The step.
        status: "passed" or "failed".
        seconds: How long it took.
        detail: Why it failed; else empty.
    """

    name: str
    status: str
    seconds: float = 0.0
    detail: str = ""


def _none_passed(folder: Path) -> str | None:
    """A run of pytest in which every test is skipped succeeds, too."""
    counts = {"tests": 0, "skipped": 0}
    for suite in ElementTree.parse(folder / "kernel_tests.xml").getroot().iter("testsuite"):
        for name in counts:
            counts[name] += int(suite.get(name, 0))
    if counts["tests"] == counts["skipped"]:
        return f"none of {counts['tests']} tests ran, all were skipped"
    return None


def _lacks_triton(folder: Path) -> str | None:
    results, _ = read_results(folder / RESULTS)
    measured = {result.operation for result in results if result.backend == "triton"}
    missing = sorted({result.operation for result in results} - measured)
    return f"no time of Triton's kernels for: {', '.join(missing)}" if missing else None


def steps(cpu: bool, folder: Path) -> list[Step]:
    """What to run, in order.

    Args:
        cpu: Whether to try the steps out on the CPU.
        folder: Where results go.
    """
    results = str(folder / RESULTS)
    dtypes = ("float32",) if cpu else ("float32", "float16", "bfloat16")
    tests = ("-m", "pytest", "tests/kernels", "-m", "not gpu" if cpu else "gpu", "-q", "-rs")
    return [
        Step("kernel-tests", (*tests, f"--junitxml={folder / 'kernel_tests.xml'}"), check=_none_passed),
        Step(
            "benchmarks",
            ("-m", "pytest", "bench", "--benchmark-only", "-q", "-rs", f"--benchmark-json={results}"),
            check=(lambda folder: None) if cpu else _lacks_triton,
        ),
        *(
            Step(
                f"picture-{dtype}",
                ("-m", "bench.plot_kernels", results, str(folder / f"kernels_{dtype}.png"), "--dtype", dtype),
            )
            for dtype in dtypes
        ),
        Step(
            "aot-report",
            (
                *("-m", "bench.aot_report", "--arch", ARCHITECTURE_WITHOUT_GPU if cpu else gpu_architecture()),
                *("--json", str(folder / "aot_report.json")),
            ),
        ),
        Step(
            "end-to-end",
            (
                *("-m", "bench.end_to_end", "--workload", WORKLOAD, "--device", "cpu" if cpu else "cuda"),
                *("--json", str(folder / "end_to_end.json")),
            ),
        ),
        Step(
            "mixed-precision",
            (
                *("-m", "bench.mixed_precision", "--device", "cpu" if cpu else "cuda"),
                *("--json", str(folder / "mixed_precision.json")),
            ),
        ),
    ]


def _variables(cpu: bool) -> dict[str, str]:
    """Environment variables of the commands: none that changes how kernels run, and no GPU with `cpu`."""
    variables = dict(os.environ)
    for name in ("TRITON_INTERPRET", ENVIRONMENT_VARIABLE):
        variables.pop(name, None)
    if cpu:
        variables |= {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
    return variables


def run_step(step: Step, folder: Path, variables: dict[str, str]) -> Outcome:
    """Runs a step, with its output on the screen and in a file NAME.log of the folder."""
    print(f"\n=== {step.name}", flush=True)
    begin = time.monotonic()
    command = [sys.executable, *step.arguments]
    with (
        (folder / f"{step.name}.log").open("w", encoding="utf-8") as log,
        subprocess.Popen(
            command, cwd=ROOT, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            log.write(line)
    detail = None
    if process.returncode:
        detail = f"exit status {process.returncode}, see {step.name}.log"
    else:
        try:
            detail = step.check(folder)
        except (OSError, ValueError, ElementTree.ParseError) as error:
            detail = str(error)
    outcome = Outcome(step.name, "failed" if detail else "passed", time.monotonic() - begin, detail or "")
    print(f"{step.name} {outcome.status} after {outcome.seconds:.0f} s {outcome.detail}", flush=True)
    return outcome


def write_summary(folder: Path, facts: dict[str, str | int], outcomes: list[Outcome], cpu: bool) -> None:
    """Writes summary.md: the environment, the steps, the times of the kernels and the pictures."""
    lines = ["# Kernels on the CPU" if cpu else f"# Kernels on {facts['device']}", ""]
    if cpu:
        lines += ["A trial of the steps without a GPU: Triton's kernels were interpreted, and none was timed.", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items()), ""]
    lines += ["| step | outcome | seconds | |", "|---|---|---|---|"]
    lines += [f"| {x.name} | {x.status} | {x.seconds:.0f} | {x.detail} |" for x in outcomes]
    if (folder / RESULTS).exists():
        try:
            table = markdown_table(read_results(folder / RESULTS)[0])
        except ValueError as error:
            table = str(error)
        lines += ["", "In brackets, the share of the operation's first backend.", "", table]
    lines += ["", *(f"![{path.stem}]({path.name})" for path in sorted(folder.glob("*.png")))]
    with atomic_file(folder / "summary.md") as unfinished:
        unfinished.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="try the steps out on the CPU")
    parser.add_argument("--out", type=Path, help="folder for the results; default: gpu_day_<date> here")
    parser.add_argument(
        "--only", nargs="+", metavar="STEP", help="only these steps; an earlier folder can go on with --out"
    )
    options = parser.parse_args(arguments)
    if not options.cpu and not torch.cuda.is_available():
        print("PyTorch sees no GPU. --cpu tries the steps out on the CPU.", file=sys.stderr)
        return 2

    folder = (options.out or Path(f"gpu_day_{datetime.now():%Y-%m-%d_%H%M%S}")).resolve()
    chosen = steps(options.cpu, folder)
    names = [step.name for step in chosen]
    if options.only:
        if unknown := sorted(set(options.only) - set(names)):
            parser.error(f"--only must name steps of {', '.join(names)}; got {', '.join(unknown)}")
        chosen = [step for step in chosen if step.name in options.only]

    folder.mkdir(parents=True, exist_ok=True)
    facts = environment() | ({"device": "cpu"} if options.cpu else {})
    print("\n".join(f"{name}: {value}" for name, value in facts.items()), flush=True)
    write_json(folder / "environment.json", facts)

    outcomes: list[Outcome] = []
    variables = _variables(options.cpu)
    for step in chosen:
        outcomes.append(run_step(step, folder, variables))
        # After each step: an interrupted day leaves what it has.
        write_summary(folder, facts, outcomes, options.cpu)
    print(f"\nsummary: {folder / 'summary.md'}")
    return int(any(outcome.status == "failed" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
