# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What a Triton kernel is compiled for: the dtype of its inputs, its constants and its launch settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch

from mesm_plugin.kernels.backend import interpreting

Precision = Literal["fp16", "bf16", "fp32", "tf32", "fp64"]

_DTYPES: dict[torch.dtype, Precision] = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
}


@dataclass(frozen=True)
class Specialisation:
    """One compiled form of a kernel.

    Args:
        kernel: Name of the kernel in the module of its operation.
        precision: Dtype of the inputs; "tf32" = float32 whose products may be rounded to TensorFloat-32.
        constants: The kernel's constexpr arguments.
        num_warps: Warps of a program.
        num_stages: Depth of the software pipeline of loads.
        max_registers: Most registers of a thread; None = the compiler decides, as on GPUs of AMD it must.
    """

    kernel: str
    precision: Precision
    constants: Mapping[str, Any]
    num_warps: int
    num_stages: int
    max_registers: int | None = None

    def options(self) -> dict[str, Any]:
        """Keyword arguments of the launch."""
        options = {
            **self.constants,
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            # Triton 3.10 changes the default.
            "enable_fp_fusion": True,
        }
        if self.max_registers is not None:
            options["maxnreg"] = self.max_registers
        return options


def precision_of(dtype: torch.dtype, device: torch.device) -> Precision:
    """The precision of inputs of `dtype`; float32 becomes "tf32" where PyTorch's own products on NVIDIA GPUs use it."""
    precision = _DTYPES[dtype]
    if precision == "fp32" and device.type == "cuda" and torch.version.hip is None:
        matmul = torch.backends.cuda.matmul
        # PyTorch refuses the older question where the newer setting was used.
        if hasattr(matmul, "fp32_precision"):
            return "tf32" if matmul.fp32_precision == "tf32" else "fp32"
        return "fp32" if torch.get_float32_matmul_precision() == "highest" else "tf32"
    return precision


def emulates_bf16(dtype: torch.dtype) -> bool:
    """Whether kernels emulate bfloat16: the one switch for the interpreter's wrong arithmetic (see numerics.py).

    The interpreter also takes the tensors of a GPU.
    """
    return dtype == torch.bfloat16 and interpreting()


def numeric_constants(precision: Precision, emulate_bf16: bool = False) -> dict[str, Any]:
    """The constants of numerics.py."""
    import triton.language as tl

    return {
        "ACCUMULATOR": tl.float64 if precision == "fp64" else tl.float32,
        "PRECISION": "tf32" if precision == "tf32" else "ieee",
        "EMULATE_BF16": emulate_bf16,
    }


@cache
def architecture_of(device: torch.device) -> str:
    """Name of a GPU's architecture as in tiles.py ("sm_86", "gfx942"); on a CPU, as the interpreter's, sm_80."""
    if device.type != "cuda":
        return "sm_80"
    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip is not None:
        return str(properties.gcnArchName).split(":")[0]
    return f"sm_{properties.major}{properties.minor}"
