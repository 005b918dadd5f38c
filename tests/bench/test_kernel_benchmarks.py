# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The command `pytest bench --benchmark-only`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.kernel_results import read_results

ROOT = Path(__file__).parents[2]

# scaled_dot_product_attention that is off by 0.01 %.
WRONG = """
import torch.nn.functional as F
right = F.scaled_dot_product_attention
F.scaled_dot_product_attention = lambda *args: right(*args) * 1.0001
"""


def test_wrong_backends_are_not_reported(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark")
    (tmp_path / "wrong_sdpa.py").write_text(WRONG)
    saved = tmp_path / "results.json"
    command = [sys.executable, "-m", "pytest", "bench/test_attention.py", "--benchmark-only", "-rsf"]
    command += ["-p", "wrong_sdpa", "-p", "no:cacheprovider", f"--benchmark-json={saved}"]
    command += ["-k", "Q4 and not (test_block or backward or compiled or 0.1)"]
    # What forces a backend elsewhere must not turn one row into another.
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "MESM_KERNEL_BACKEND": "triton"}
    # A child of pytest-xdist's worker would take itself for one, and a worker runs no benchmarks.
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTEST_XDIST")}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1, result.stdout + result.stderr
    message = r"WrongResultError: output 0 is off by (9\.9.e-05|1\.0.e-04), of at most 8e-06 that is allowed"
    assert re.search(message, result.stdout), result.stdout
    measured, facts = read_results(saved)
    assert facts["torch"] == torch.__version__
    assert facts["threads"] >= 1
    names = [(x.operation, x.case, x.dtype, x.backend, x.passes) for x in measured if x.dtype == "float32"]
    assert ("attention", "Q4 40x10", "float32", "reference", "forward") in names
    assert "sdpa" not in {x.backend for x in measured}
    if not torch.cuda.is_available():
        assert len(names) == 1
        assert "there is no GPU to compile Triton's kernels for" in result.stdout
    assert measured[0].seconds > 0
    # Outputs of 4 * (40 + 10) rows of 256 float32 numbers at the least.
    assert measured[0].peak_bytes >= 4 * 50 * 256 * 4
    assert "| attention | Q4 40x10 | float32 | reference |" in result.stdout


def test_plain_pytest_runs_no_benchmarks(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.getini("testpaths") == ["tests"]
