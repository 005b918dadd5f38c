# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path
from typing import Any

import pytest

from bench.kernel_results import Result, by_backend, markdown_table, read_results

RESULTS = [
    Result("loss", "N32", "float32", "reference", "forward", 0.002, 0.003, 4_000_000),
    Result("loss", "N32", "float32", "triton", "forward", 0.0005, 0.0006, 1_000_000),
    Result("loss", "N32", "float32", "triton", "forward + backward", 0.0015, 0.002, 2_000_000),
    Result("loss", "N65536", "float32", "triton", "forward", 1.5, 1.6, 3_000_000),
]


def report(results: list[Result]) -> dict[str, Any]:
    """What pytest-benchmark saves of the results, as far as it is read."""
    benchmarks = [
        {
            "extra_info": {
                name: getattr(result, name)
                for name in ("operation", "case", "dtype", "backend", "passes", "peak_bytes")
            },
            "stats": {"min": result.seconds, "median": result.median_seconds},
        }
        for result in results
    ]
    environment = {"device": "cpu", "cpu": "some CPU", "threads": 1, "torch": "2.13.0", "triton": "3.9.0"}
    return {"benchmarks": benchmarks, "machine_info": {"environment": environment}}


def test_reads_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(report(RESULTS)))
    results, environment = read_results(path)
    assert results == RESULTS
    assert environment["cpu"] == "some CPU"


@pytest.mark.parametrize("text", ["{", "[]", '{"benchmarks": [{}], "machine_info": {}}', '{"benchmarks": []}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="results.json must be a JSON file saved by `pytest bench --benchmark-only`"):
        read_results(path)


def test_no_results(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(report([])))
    with pytest.raises(ValueError, match="results.json holds no results"):
        read_results(path)


def test_table() -> None:
    lines = markdown_table(RESULTS).splitlines()
    assert len(lines) == 5
    assert lines[2] == "| loss | N32 | float32 | reference | 2 (1.00) | - | 4 (1.00) | - |"
    assert lines[3] == "| loss | N32 | float32 | triton | 0.5 (0.25) | 1.5 | 1 (0.25) | 2 |"
    # The reference did not fit into memory, so there is no ratio.
    assert lines[4] == "| loss | N65536 | float32 | triton | 1500 | - | 3 | - |"


def test_grouping_keeps_the_order() -> None:
    groups = by_backend(RESULTS)
    assert list(groups) == [("loss", "N32", "float32"), ("loss", "N65536", "float32")]
    assert list(groups["loss", "N32", "float32"]) == ["reference", "triton"]
