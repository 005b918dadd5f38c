# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Types of command-line arguments."""

import argparse
from pathlib import Path


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return int(text)


def released_checkout(text: str) -> Path:
    """The folder of a checkout of the released code."""
    folder = Path(text)
    if not (folder / "runner.py").is_file():
        raise argparse.ArgumentTypeError(f"{folder} has no runner.py: name a checkout of github.com/lntzm/MESM")
    return folder
