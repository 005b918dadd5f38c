# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Which implementation of an operation runs."""

import importlib.util
import os
from functools import cache
from typing import Literal

import torch
from torch import Tensor

Backend = Literal["auto", "triton", "reference"]
BACKENDS = ("auto", "triton", "reference")

# Forces the backend of every call, whatever its `backend` argument says.
ENVIRONMENT_VARIABLE = "MESM_KERNEL_BACKEND"

# Found, not imported: Triton is imported when a kernel first runs.
TRITON_IS_INSTALLED = importlib.util.find_spec("triton") is not None


@cache
def interpreting() -> bool:
    """Whether Triton's kernels run in its interpreter: TRITON_INTERPRET=1 was set before Triton was first imported."""
    from triton import knobs
    from triton.language.random import philox
    from triton.runtime.interpreter import InterpretedFunction

    return bool(knobs.runtime.interpret) and isinstance(philox, InterpretedFunction)


def check_backend(backend: str) -> None:
    """Raises a ValueError where `backend` is not one of `BACKENDS`."""
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {BACKENDS}, got {backend!r}")


def asked_for(backend: Backend) -> Backend:
    """The backend that the environment variable MESM_KERNEL_BACKEND names, or else `backend`.

    Raises:
        ValueError: Either has an unknown value.
    """
    check_backend(backend)
    forced = os.environ.get(ENVIRONMENT_VARIABLE)
    if not forced:
        return backend
    if forced not in BACKENDS:
        raise ValueError(f"the environment variable {ENVIRONMENT_VARIABLE} must be one of {BACKENDS}, got {forced!r}")
    return forced  # type: ignore[return-value]


def use_triton(backend: Backend, tensor: Tensor, unsupported: str | None) -> bool:
    """Decides between the Triton kernels and the reference.

    Args:
        backend: "auto" takes the kernels for CUDA and HIP tensors that they support, "triton" insists on them,
            "reference" never takes them. The environment variable MESM_KERNEL_BACKEND overrides it.
        tensor: An input of the operation.
        unsupported: Why the kernels cannot take the inputs, naming the argument; None where they can.

    Raises:
        ValueError: `backend` or the environment variable has an unknown value, or the kernels are insisted on and the
            inputs are unsupported.
    """
    backend = asked_for(backend)
    if backend == "reference":
        return False
    if backend == "auto":
        return tensor.is_cuda and unsupported is None and TRITON_IS_INSTALLED
    if unsupported is not None:
        raise ValueError(unsupported)
    return True


def check_device(device: torch.device) -> None:
    """Checks, before a launch, that the Triton kernels can run on tensors of `device`.

    Raises:
        RuntimeError: They cannot.
    """
    if not TRITON_IS_INSTALLED:
        raise RuntimeError("backend='triton' needs the package triton: install it, or use backend='reference'")
    if device.type == "cpu":
        if not interpreting():
            raise RuntimeError(
                "backend='triton' needs CUDA or HIP tensors, got CPU tensors: set TRITON_INTERPRET=1 before Triton is "
                "first imported to run the kernels in its interpreter, or use backend='reference'"
            )
    elif device.type != "cuda":
        raise RuntimeError(f"backend='triton' needs CUDA or HIP tensors, got tensors on {device.type!r}")
