# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""JSON in files of its own."""

import json
import os
from pathlib import Path
from typing import Any

from mesm_plugin.utils.atomic_file import atomic_file


def json_text(content: Any, **options: Any) -> str:
    """The content as it stands in a file.

    Args:
        content: What JSON knows.
        options: For `json.dumps`; without them the text is indented by 2, and NaN and infinity are refused.
    """
    return json.dumps(content, **{"indent": 2, "allow_nan": False, **options}) + "\n"


def write_json(path: str | os.PathLike[str], content: Any, **options: Any) -> None:
    """Writes a file that appears whole or not at all; see `json_text`."""
    text = json_text(content, **options)
    with atomic_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def read_json(path: Path, remedy: str) -> Any:
    """What a file holds.

    Args:
        path: The file.
        remedy: What to do about a damaged one: "copy it again".

    Raises:
        ValueError: It is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); {remedy}") from error
