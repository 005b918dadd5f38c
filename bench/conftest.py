# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The benchmarks of the kernels: `pytest bench --benchmark-only`.

Results are saved as JSON under .benchmarks/, or where --benchmark-json says; `python -m bench.plot_kernels` draws them.
"""

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.candidates import Candidate, unavailable
from bench.environment import environment
from bench.kernel_results import Result, markdown_table
from bench.peak_memory import peak_memory
from mesm_plugin.kernels.backend import ENVIRONMENT_VARIABLE

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# Each benchmark runs for about so long, within these numbers of rounds. The check and others warm up before.
SECONDS = 1.0
FEWEST_ROUNDS, MOST_ROUNDS = 3, 1000

results_key = pytest.StashKey[list[Result]]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.stash[results_key] = []
    option = config.option
    if not (option.benchmark_json or option.benchmark_save or option.benchmark_autosave):
        option.benchmark_save = "kernels"


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info["environment"] = environment() | {"timer": str(config.getoption("benchmark_timer"))}


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if results := config.stash[results_key]:
        terminalreporter.section("kernels: time and memory")
        terminalreporter.write_line(markdown_table(results))


@pytest.fixture
def device() -> torch.device:
    """Where to measure: the GPU if there is one."""
    return DEVICE


@pytest.fixture(params=("float32", "float16", "bfloat16") if DEVICE.type == "cuda" else ("float32",))
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """Each dtype to measure in: half precision on GPUs only."""
    dtype: torch.dtype = getattr(torch, request.param)
    return dtype


@pytest.fixture(autouse=True)
def _own_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row runs its own backend, whatever the environment forces elsewhere."""
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)


def _rounds(run: Callable[[], Any]) -> int:
    """How often to run, by the shortest of a few trials; a slow function is tried once."""
    trials: list[float] = []
    while len(trials) < 5 and sum(trials) < SECONDS / 2:
        begin = time.perf_counter()
        run()
        trials.append(time.perf_counter() - begin)
    return min(max(int(SECONDS / min(trials)), FEWEST_ROUNDS), MOST_ROUNDS)


def _prepare(
    make: Callable[[], Candidate], check: Callable[[Candidate], float], backward: bool, device: torch.device
) -> tuple[Callable[[], None], int, int, float] | None:
    """What to time and in how many rounds, its peak memory and its error; None where the GPU's memory is too small."""
    try:
        candidate = make()
        error = check(candidate)
        compute = candidate.forward_backward if backward else candidate.forward

        def run() -> None:
            compute()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        peak = peak_memory(compute, device)
        rounds = _rounds(run)
    except torch.OutOfMemoryError:
        return None
    return run, rounds, peak, error


@pytest.fixture
def measure(
    request: pytest.FixtureRequest, benchmark: BenchmarkFixture, device: torch.device, dtype: torch.dtype
) -> Callable[..., None]:
    """Checks a candidate, then measures its time and its peak memory.

    The function that it gives takes the operation, the case's name, the backend, whether the backward pass is included,
    a function that makes the candidate and one that checks it. It raises what the check raises, and then measures
    nothing.
    """

    def measure(
        operation: str,
        case: str,
        backend: str,
        backward: bool,
        make: Callable[[], Candidate],
        check: Callable[[Candidate], float],
    ) -> None:
        if reason := unavailable(backend, device):
            pytest.skip(reason)
        if (prepared := _prepare(make, check, backward, device)) is None:
            # Not within the handler: the error would keep its tensors alive.
            torch.cuda.empty_cache()
            pytest.skip("the GPU has too little memory")
        run, rounds, peak, error = prepared
        passes = "forward + backward" if backward else "forward"
        name = str(dtype).removeprefix("torch.")
        benchmark.group = f"{operation}, {case}, {name}, {passes}"
        benchmark.name = backend
        benchmark.pedantic(run, rounds=rounds)
        benchmark.extra_info |= {
            "operation": operation,
            "case": case,
            "dtype": name,
            "backend": backend,
            "passes": passes,
            "peak_bytes": peak,
            "error_of_tolerance": error,
        }
        if benchmark.stats is not None:
            stats = benchmark.stats.stats
            result = Result(operation, case, name, backend, passes, stats.min, stats.median, peak)
            request.config.stash[results_key].append(result)

    return measure
