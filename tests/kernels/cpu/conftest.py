# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import shutil

import pytest
from torch.utils import cpp_extension

from mesm_plugin.kernels.cpu import operators_are_loaded


@pytest.fixture(autouse=True, scope="session")
def operators() -> None:
    if shutil.which(cpp_extension.get_cxx_compiler()) is None:
        pytest.skip("there is no C++ compiler, so the C++ operators cannot be built; install g++")
    assert operators_are_loaded()
