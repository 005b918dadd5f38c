# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import shutil

import pytest
import torch
from torch.utils import cpp_extension

from mesm_plugin.kernels.cpu import operators_are_loaded

needs_bfloat16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN has no products of bfloat16 on this CPU"
)


@pytest.fixture(autouse=True, scope="session")
def operators() -> None:
    if shutil.which(cpp_extension.get_cxx_compiler()) is None:
        pytest.skip("there is no C++ compiler, so the C++ operators cannot be built; install g++")
    assert operators_are_loaded()
