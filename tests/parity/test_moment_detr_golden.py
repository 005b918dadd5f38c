# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Moment-DETR gives the same outputs, losses and gradients as its authors' code."""

import sys
from pathlib import Path

import pytest

from mesm_plugin.converters import MOMENT_DETR

sys.path.append(str(Path(__file__).parent))
from golden_peer import compare, each_perturbation, golden_files, load, perturbed

FILES = golden_files("moment_detr")


needs_files = pytest.mark.skipif(not FILES, reason="no moment_detr*.pt; set MESM_GOLDEN to their folder")


@needs_files
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_golden(file: Path) -> None:
    compare(load(file), MOMENT_DETR)


@needs_files
@each_perturbation
def test_a_perturbed_file_fails(kind: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        compare(perturbed(load(FILES[0]), kind), MOMENT_DETR)
