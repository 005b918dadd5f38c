# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Reads what the benchmarks of the kernels saved, and prints it as a table.

python -m bench.kernel_results RESULTS.json
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PASSES = ("forward", "forward + backward")


@dataclass(frozen=True)
class Result:
    """One measurement.

    Attributes:
        operation: What was computed.
        case: Its sizes.
        dtype: "float32", ...
        backend: How it was computed.
        passes: One of PASSES.
        seconds: Shortest time of a round.
        median_seconds: Median over the rounds.
        peak_bytes: Most memory that its tensors took.
    """

    operation: str
    case: str
    dtype: str
    backend: str
    passes: str
    seconds: float
    median_seconds: float
    peak_bytes: int


def read_results(path: Path) -> tuple[list[Result], dict[str, Any]]:
    """The measurements of a file that pytest-benchmark saved, and the environment they were made in.

    Raises:
        ValueError: The file holds no benchmarks of the kernels.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        results = []
        for benchmark in report["benchmarks"]:
            info, stats = benchmark["extra_info"], benchmark["stats"]
            named = {name: info[name] for name in ("operation", "case", "dtype", "backend", "passes", "peak_bytes")}
            results.append(Result(**named, seconds=stats["min"], median_seconds=stats["median"]))
        environment = report["machine_info"]["environment"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} must be a JSON file saved by `pytest bench --benchmark-only`: {error!r}") from error
    if not results:
        raise ValueError(f"{path} holds no results: every benchmark was skipped or failed")
    return results, environment


def by_backend(results: list[Result]) -> dict[tuple[str, str, str], dict[str, dict[str, Result]]]:
    """Results by (operation, case, dtype), then by backend, then by passes; all in the order measured."""
    groups: dict[tuple[str, str, str], dict[str, dict[str, Result]]] = {}
    for result in results:
        group = groups.setdefault((result.operation, result.case, result.dtype), {})
        group.setdefault(result.backend, {})[result.passes] = result
    return groups


def baselines(results: list[Result]) -> dict[str, str]:
    """The backend that the others are compared with, by operation: the first that was measured."""
    return {result.operation: result.backend for result in reversed(results)}


def _cell(result: Result | None, first: Result | None, attribute: str, scale: float) -> str:
    if result is None:
        return "-"
    value = getattr(result, attribute)
    text = f"{value * scale:.3g}" if value * scale < 1000 else f"{value * scale:.0f}"
    return text if first is None else f"{text} ({value / getattr(first, attribute):.2f})"


def markdown_table(results: list[Result]) -> str:
    """The results as a Markdown table; in brackets each number over that of the operation's first backend."""
    header = ("operation", "sizes", "dtype", "backend", *(f"{passes}, ms" for passes in PASSES))
    header += tuple(f"peak of {passes}, MB" for passes in PASSES)
    lines = [header, ("---",) * len(header)]
    for (operation, case, dtype), backends in by_backend(results).items():
        # Where the reference needs too much memory, there is nothing to compare with.
        first = backends.get(baselines(results)[operation], {})
        for backend, measured in backends.items():
            cells = [
                _cell(measured.get(passes), first.get(passes), attribute, scale)
                for attribute, scale in (("seconds", 1e3), ("peak_bytes", 1e-6))
                for passes in PASSES
            ]
            lines.append((operation, case, dtype, backend, *cells))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="JSON file of `pytest bench --benchmark-only`")
    arguments = parser.parse_args()
    try:
        results, _ = read_results(arguments.results)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(markdown_table(results))


if __name__ == "__main__":
    main()
