# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Folders of feature files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def write_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes an `.npz` per id with random `features` (Lv, channels), id i having i + 1 clips; returns the folder."""

    def write(name: str = "clips", ids: Any = ("a", "b", "c", "d"), channels: int = 6, key: str = "features") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        rng = np.random.default_rng(0)
        for number, id_ in enumerate(ids):
            np.savez(folder / f"{id_}.npz", **{key: rng.standard_normal((number + 1, channels), dtype=np.float32)})
        return folder

    return write
