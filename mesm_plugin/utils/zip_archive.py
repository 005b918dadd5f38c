# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Zip archives, in which PyTorch saves tensors."""

import zipfile
from pathlib import Path


def is_zip(path: Path) -> bool:
    """Whether a file is a zip archive; one of a broken directory is none."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return False
