# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Types of command-line arguments."""

import argparse


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return int(text)
