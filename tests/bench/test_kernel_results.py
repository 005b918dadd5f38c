# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from bench.kernel_results import Result, by_backend, markdown_table, read_results
from tests.bench.saved_benchmarks import saved_benchmarks

RESULTS = [
    Result("loss", "N32", "float32", "reference", "forward", 0.002, 0.003, 4_000_000),
    Result("loss", "N32", "float32", "triton", "forward", 0.0005, 0.0006, 1_000_000),
    Result("loss", "N32", "float32", "triton", "forward + backward", 0.0015, 0.002, 2_000_000),
    Result("loss", "N65536", "float32", "triton", "forward", 1.5, 1.6, 3_000_000),
]


def test_reads_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(saved_benchmarks(RESULTS))
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
    path.write_text(saved_benchmarks([]))
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
