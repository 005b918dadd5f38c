# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import importlib.util
import json
import os
from pathlib import Path

import pytest
import torch

from bench import gpu_day
from bench.gpu_day import Outcome, Step, run_step, steps
from bench.kernel_results import Result
from tests.bench.saved_benchmarks import saved_benchmarks

SUITE = '<testsuites><testsuite tests="{tests}" skipped="{skipped}" failures="0"/></testsuites>'


def saved_results(backends: tuple[str, ...]) -> str:
    """A file of benchmarks that measured these backends."""
    return saved_benchmarks(
        [
            Result("loss", "N32", "float32", backend, passes, 0.001, 0.002, 1000)
            for backend in backends
            for passes in ("forward", "forward + backward")
        ]
    )


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_day.main([]) == 2
    assert capsys.readouterr().err == "PyTorch sees no GPU. --cpu tries the steps out on the CPU.\n"


@pytest.mark.usefixtures("no_gpu")
def test_steps_that_fail_do_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        gpu_day,
        "steps",
        lambda cpu, folder: [
            Step("first", ("-c", "print('said by the first'); raise SystemExit(3)")),
            Step("second", ("-c", "print('said by the second')")),
        ],
    )
    assert gpu_day.main(["--cpu", "--out", str(tmp_path / "day")]) == 1
    summary = (tmp_path / "day" / "summary.md").read_text()
    assert "| first | failed | 0 | exit status 3, see first.log |" in summary
    assert "| second | passed | 0 |  |" in summary
    assert f"| torch | {torch.__version__} |" in summary
    assert (tmp_path / "day" / "first.log").read_text() == "said by the first\n"
    assert (tmp_path / "day" / "second.log").read_text() == "said by the second\n"
    assert json.loads((tmp_path / "day" / "environment.json").read_text())["device"] == "cpu"


@pytest.mark.usefixtures("no_gpu")
def test_one_step_for_real(tmp_path: Path) -> None:
    (tmp_path / "benchmarks.json").write_text(saved_results(("reference", "compiled")))
    assert gpu_day.main(["--cpu", "--out", str(tmp_path), "--only", "picture-float32"]) == 0
    assert (tmp_path / "kernels_float32.png").read_bytes().startswith(b"\x89PNG")
    summary = (tmp_path / "summary.md").read_text()
    assert "![kernels_float32](kernels_float32.png)" in summary
    assert "| loss | N32 | float32 | compiled | 1 (1.00) |" in summary


@pytest.mark.usefixtures("no_gpu")
def test_unknown_steps_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        gpu_day.main(["--cpu", "--only", "aot-report", "coffee"])
    assert "--only must name steps of kernel-tests, benchmarks," in capsys.readouterr().err


@pytest.mark.parametrize("cpu", [True, False])
def test_commands_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: bool) -> None:
    monkeypatch.setattr(gpu_day, "gpu_architecture", lambda: "sm_90")
    for step in steps(cpu, tmp_path):
        assert step.arguments[0] == "-m"
        assert importlib.util.find_spec(step.arguments[1]) is not None, step.name


def test_on_a_gpu_only_compiled_kernels_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_day, "gpu_architecture", lambda: "sm_90")
    by_name = {step.name: step for step in steps(False, tmp_path)}
    assert {"picture-float32", "picture-float16", "picture-bfloat16"} < set(by_name)
    assert "gpu" in by_name["kernel-tests"].arguments
    assert "sm_90" in by_name["aot-report"].arguments
    assert "cuda" in by_name["mixed-precision"].arguments

    junit = tmp_path / "kernel_tests.xml"
    junit.write_text(SUITE.format(tests=7, skipped=7))
    assert by_name["kernel-tests"].check(tmp_path) == "none of 7 tests ran, all were skipped"
    junit.write_text(SUITE.format(tests=7, skipped=6))
    assert by_name["kernel-tests"].check(tmp_path) is None

    saved = tmp_path / "benchmarks.json"
    saved.write_text(saved_results(("reference", "compiled")))
    assert by_name["benchmarks"].check(tmp_path) == "no time of Triton's kernels for: loss"
    saved.write_text(saved_results(("reference", "triton")))
    assert by_name["benchmarks"].check(tmp_path) is None


def test_missing_results_fail_a_step(tmp_path: Path) -> None:
    step = Step("tests", ("-c", "pass"), check=lambda folder: (folder / "results.xml").read_text())
    outcome = run_step(step, tmp_path, dict(os.environ))
    assert (outcome.status, "results.xml" in outcome.detail) == ("failed", True)


def test_kernels_run_as_on_any_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("MESM_KERNEL_BACKEND", "reference")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    names = "TRITON_INTERPRET", "MESM_KERNEL_BACKEND", "CUDA_VISIBLE_DEVICES"
    script = f"import os; print([os.environ.get(name) for name in {names}])"
    for cpu, expected in ((False, "[None, None, '1']"), (True, "[None, None, '']")):
        outcome = run_step(Step("look", ("-c", script)), tmp_path, gpu_day._variables(cpu))
        assert outcome == Outcome("look", "passed", outcome.seconds)
        assert (tmp_path / "look.log").read_text().strip() == expected
