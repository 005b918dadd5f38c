# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys

import pytest
import torch

from mesm_plugin.kernels import backend
from mesm_plugin.kernels.backend import ENVIRONMENT_VARIABLE, check_backend, check_device, use_triton

CPU = torch.zeros(1)


class CudaTensor:
    """What `use_triton` sees of a tensor on a GPU."""

    is_cuda = True


GPU: torch.Tensor = CudaTensor()  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def _no_forced_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)


def test_unknown_backend() -> None:
    message = r"backend must be one of \('auto', 'triton', 'reference'\), got 'cuda'"
    with pytest.raises(ValueError, match=message):
        check_backend("cuda")
    with pytest.raises(ValueError, match=message):
        use_triton("cuda", CPU, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "tensor", "expected"),
    [
        ("auto", CPU, False),
        ("auto", GPU, True),
        ("triton", CPU, True),
        ("triton", GPU, True),
        ("reference", CPU, False),
        ("reference", GPU, False),
    ],
)
def test_choice(name: backend.Backend, tensor: torch.Tensor, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "TRITON_IS_INSTALLED", True)
    assert use_triton(name, tensor, None) is expected


def test_unsupported_inputs() -> None:
    assert not use_triton("auto", GPU, "query must be short")
    assert not use_triton("reference", GPU, "query must be short")
    with pytest.raises(ValueError, match="^query must be short$"):
        use_triton("triton", GPU, "query must be short")


def test_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "TRITON_IS_INSTALLED", False)
    assert not use_triton("auto", GPU, None)
    assert use_triton("triton", GPU, None)
    with pytest.raises(RuntimeError, match="backend='triton' needs the package triton: install it, or use"):
        check_device(torch.device("cuda"))


@pytest.mark.parametrize("forced", ["auto", "triton", "reference"])
@pytest.mark.parametrize("argument", ["auto", "triton", "reference"])
def test_environment_variable_overrides_the_argument(
    forced: backend.Backend, argument: backend.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [use_triton(forced, tensor, None) for tensor in (CPU, GPU)]
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, forced)
    assert [use_triton(argument, tensor, None) for tensor in (CPU, GPU)] == expected


def test_empty_environment_variable_forces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "")
    assert use_triton("triton", CPU, None)
    assert not use_triton("reference", CPU, None)


def test_unknown_value_of_the_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "eager")
    with pytest.raises(ValueError, match="the environment variable MESM_KERNEL_BACKEND must be one of .*, got 'eager'"):
        use_triton("auto", CPU, None)


def test_kernels_run_on_the_device(kernel_device: torch.device) -> None:
    check_device(kernel_device)


def test_other_devices() -> None:
    with pytest.raises(RuntimeError, match="backend='triton' needs CUDA or HIP tensors, got tensors on 'xpu'"):
        check_device(torch.device("xpu"))


def test_triton_is_imported_when_a_kernel_is_first_used_and_then_needs_its_interpreter() -> None:
    # In a process without TRITON_INTERPRET, which comes too late once Triton is imported.
    code = """
import os, sys, torch
from mesm_plugin.kernels.cross_attention import cross_attention
from mesm_plugin.kernels.backend import interpreting
x = torch.ones(1, 2, 1, 16, requires_grad=True)
mask = torch.ones(1, 2, dtype=torch.bool)
cross_attention(x, x, x, mask).sum().backward()
assert "triton" not in sys.modules
for _ in range(2):
    try:
        cross_attention(x, x, x, mask, backend="triton")
    except RuntimeError as error:
        print(error)
    assert "triton" in sys.modules
    os.environ["TRITON_INTERPRET"] = "1"
    interpreting.cache_clear()
"""
    inherited = {k: v for k, v in os.environ.items() if k not in ("TRITON_INTERPRET", ENVIRONMENT_VARIABLE)}
    result = subprocess.run([sys.executable, "-c", code], env=inherited, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    message = (
        "backend='triton' needs CUDA or HIP tensors, got CPU tensors: set TRITON_INTERPRET=1 before Triton is first "
        "imported to run the kernels in its interpreter, or use backend='reference'"
    )
    assert result.stdout.splitlines() == [message] * 2
