# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What a command writes where `--json` says."""

import sys
from typing import Any

from mesm_plugin.utils import json_text, write_json


def output_json(content: Any, file: str) -> None:
    """Writes to a file, whose name is printed, or to standard output if it is "-"."""
    if file == "-":
        sys.stdout.write(json_text(content))
        return
    write_json(file, content)
    print(f"JSON: {file}")
