# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real annotations and golden numbers, outside the repository."""
    folder = Path(os.environ.get("MESM_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}; set MESM_SHARED to the folder with data/ and golden/")
    return folder
