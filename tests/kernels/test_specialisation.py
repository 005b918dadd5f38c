# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import dataclasses
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from mesm_plugin.kernels import specialisation
from mesm_plugin.kernels.specialisation import (
    Specialisation,
    architecture_of,
    emulates_bf16,
    numeric_constants,
    precision_of,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_options_of_a_launch() -> None:
    form = Specialisation("kernel", "fp16", {"BLOCK": 64}, num_warps=8, num_stages=3)
    options = {"BLOCK": 64, "num_warps": 8, "num_stages": 3, "enable_fp_fusion": True}
    assert form.options() == options
    assert dataclasses.replace(form, max_registers=128).options() == {**options, "maxnreg": 128}


@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
@pytest.mark.parametrize(
    ("dtype", "precision"),
    [(torch.float16, "fp16"), (torch.bfloat16, "bf16"), (torch.float32, "fp32"), (torch.float64, "fp64")],
    ids=str,
)
def test_precision_of_dtypes(dtype: torch.dtype, precision: str, device: torch.device) -> None:
    assert precision_of(dtype, device) == precision


@pytest.fixture
def products_in_tf32() -> Iterator[None]:
    """Lets PyTorch round float32 products on NVIDIA GPUs."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("products_in_tf32")
def test_float32_follows_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", None)
    assert precision_of(torch.float32, CUDA) == "tf32"
    assert precision_of(torch.float16, CUDA) == "fp16"
    assert precision_of(torch.float32, CPU) == "fp32"
    monkeypatch.setattr(torch.version, "hip", "6.2")
    assert precision_of(torch.float32, CUDA) == "fp32"


def test_bf16_is_emulated_in_the_interpreter_only(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whatever the device: the interpreter takes the tensors of a GPU as well.
    for interprets in (True, False):
        monkeypatch.setattr(specialisation, "interpreting", lambda interprets=interprets: interprets)
        assert emulates_bf16(torch.bfloat16) is interprets
        assert not emulates_bf16(torch.float16)
        assert not emulates_bf16(torch.float32)


@pytest.mark.parametrize("emulate_bf16", [False, True])
def test_numeric_constants(emulate_bf16: bool) -> None:
    tl = pytest.importorskip("triton.language")
    accumulators = {"fp16": tl.float32, "bf16": tl.float32, "fp32": tl.float32, "tf32": tl.float32, "fp64": tl.float64}
    for precision, accumulator in accumulators.items():
        assert numeric_constants(precision, emulate_bf16) == {
            "ACCUMULATOR": accumulator,
            "PRECISION": "tf32" if precision == "tf32" else "ieee",
            "EMULATE_BF16": emulate_bf16,
        }


@pytest.fixture
def _no_architecture_is_known() -> Iterator[None]:
    architecture_of.cache_clear()
    yield
    architecture_of.cache_clear()


@pytest.mark.usefixtures("_no_architecture_is_known")
@pytest.mark.parametrize(
    ("hip", "properties", "architecture"),
    [
        (None, SimpleNamespace(major=8, minor=6), "sm_86"),
        (None, SimpleNamespace(major=12, minor=0), "sm_120"),
        ("6.2", SimpleNamespace(major=9, minor=4, gcnArchName="gfx942:sramecc+:xnack-"), "gfx942"),
    ],
    ids=["sm_86", "sm_120", "gfx942"],
)
def test_architecture(
    hip: str | None, properties: SimpleNamespace, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert architecture_of(CUDA) == architecture
    assert architecture_of(CPU) == "sm_80"
