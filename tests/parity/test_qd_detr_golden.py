# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""QD-DETR gives the same outputs, losses and gradients as its authors' code."""

import sys
from pathlib import Path

import pytest

from mesm_plugin.converters.qd_detr import QD_DETR

sys.path.append(str(Path(__file__).parent))
from golden_peer import compare, golden_files, load

FILES = golden_files("qd_detr")


@pytest.mark.skipif(not FILES, reason="no qd_detr*.pt; set MESM_GOLDEN to the folder of the golden files")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_golden(file: Path) -> None:
    compare(load(file), QD_DETR)
