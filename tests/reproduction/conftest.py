# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Tiny simulated features."""

from pathlib import Path

import pytest

from tests.simulated_features import write_simulated


@pytest.fixture
def simulated(tmp_path: Path) -> Path:
    """Folders of simulated features of Charades-STA and QVHighlights, with annotations, those of Charades-CG too."""
    return write_simulated(tmp_path / "sims")
