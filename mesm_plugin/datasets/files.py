# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Files that the user has to provide."""

import codecs
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard


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
    if path.is_dir():
        raise FileNotFoundError(f"{content} not found: {path} is a folder, expected a file")
    folder = path.absolute().parent
    problem = "which does not exist" if not folder.is_dir() else "which has no file of that name"
    raise FileNotFoundError(
        f"{content} not found: {path} (looked in {folder}, {problem}); docs/data.md says how to get it"
    )


def shown(value: Any) -> str:
    """A wrong value for a message, cut to 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a JSON value is a number that a float can hold."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_id(value: Any) -> bool:
    """Whether a JSON value is a whole number or a text, by which a query or video can be called."""
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 text file, with their line ends; a byte order mark is left out.

    Raises:
        ValueError: A line is not UTF-8; the message names file and line.
    """
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).decode("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}:{number}: not UTF-8 text ({error}); convert the file") from error


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The values of a JSON Lines file, one a line, with the number of the line from 1.

    Raises:
        ValueError: A line is not UTF-8, not JSON, or has an object with a key twice; the message names file and line.
    """
    for number, line in enumerate(read_lines(path), 1):
        yield number, parse_json_line(line, f"{path}:{number}")


def parse_json_line(line: str, where: str) -> Any:
    """The value of a line of a JSON Lines file; `where`, file and line, is for messages.

    Raises:
        ValueError: It is not JSON, or has an object with a key twice.
    """
    try:
        return _parse_json(line, where)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not a line of JSON ({error}); is the file complete?") from error


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        ValueError: The file is not UTF-8, not JSON, or has an object with a key twice; the message names file and line,
            or the key.
    """
    try:
        return _parse_json("".join(read_lines(path)), str(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not JSON ({error}); is the file complete?") from error


def _parse_json(text: str, where: str) -> Any:
    def of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"{where}: the key {twice!r} occurs twice in an object; rename or merge its entries")
        return value

    def of_digits(digits: str) -> int:
        try:
            return int(digits)
        except ValueError as error:
            # Python limits the digits of a number that it converts.
            raise ValueError(f"{where}: a number has {len(digits)} digits, expected fewer") from error

    try:
        value = json.loads(text, object_pairs_hook=of_pairs, parse_int=of_digits)
    except RecursionError as error:
        raise ValueError(f"{where}: lists or objects are nested too deeply; it is no file of annotations") from error
    # Half of an escaped pair is JSON, but no text, and would fail wherever it is encoded.
    if "\\ud" in text.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{where}: a text has half of a character ({error}); correct it") from error
    return value
