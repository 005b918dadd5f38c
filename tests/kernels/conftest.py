# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Where the tests of the Triton kernels run: in Triton's interpreter, or compiled on a GPU."""

import pytest
import torch

from mesm_plugin.kernels.backend import TRITON_IS_INSTALLED, interpreting
from mesm_plugin.kernels.cpu.suitable import has_bfloat16

needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="oneDNN has no products of bfloat16 on this CPU")


@pytest.fixture
def gpu() -> torch.device:
    """The device of kernels that Triton compiles."""
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    if not TRITON_IS_INSTALLED:
        pytest.skip("the package triton is not installed")
    if interpreting():
        pytest.skip("Triton interprets kernels here, as TRITON_INTERPRET=1 is in the environment")
    return torch.device("cuda")


@pytest.fixture(params=["interpreter", pytest.param("gpu", marks=pytest.mark.gpu)])
def kernel_device(request: pytest.FixtureRequest) -> torch.device:
    """Each device on which kernels can run."""
    device: torch.device = request.getfixturevalue(request.param)
    return device
