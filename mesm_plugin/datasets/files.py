# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Files that the user has to provide."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def require_file(file: str | Path, content: str) -> Path:
    """The path of a file that has to exist.

    Args:
        file: Path of the file.
        content: What the file holds, for the message.

    Raises:
        FileNotFoundError: There is no such file; the message says where it was looked for.
    """
    path = Path(file)
    if path.is_file():
        return path
    folder = path.absolute().parent
    problem = "which does not exist" if not folder.is_dir() else "which has no file of that name"
    raise FileNotFoundError(
        f"{content} not found: {path} (looked in {folder}, {problem}); docs/data.md says how to get it"
    )


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 text file, with their line ends.

    Raises:
        ValueError: A line is not UTF-8; the message names file and line.
    """
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}:{number}: not UTF-8 text ({error}); convert the file") from error


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The values of a JSON Lines file, one a line, with the number of the line from 1.

    Raises:
        ValueError: A line is not UTF-8, or not JSON; the message names file and line.
    """
    for number, line in enumerate(read_lines(path), 1):
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: not a line of JSON ({error}); is the file complete?") from error


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        ValueError: The file is not UTF-8, not JSON, or has an object with a key twice; the message names file and line,
            or the key.
    """

    def of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"{path}: the key {twice!r} occurs twice in an object; rename or merge its entries")
        return value

    try:
        return json.loads("".join(read_lines(path)), object_pairs_hook=of_pairs)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not JSON ({error}); is the file complete?") from error
