# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Reads every array of a source once, and remembers which were good."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from mesm_plugin.utils import atomic_file
from mesm_plugin.utils.progress import track_progress

Shape = tuple[int, int]
# A file that was written just now may be written again without its size or time telling so.
_SECONDS_UNTIL_SETTLED = 2.0


class StampedSource(Protocol):
    """A file or folder with arrays by key."""

    path: Path

    def stamp(self, key: str) -> tuple[int, int]:
        """Size in bytes and time of change in ns of the file with the array of `key`."""

    def checked_shape(self, key: str) -> Shape | None:
        """Shape of an array whose numbers were checked when it was packed; None if it has to be read for that."""


def check_arrays(
    source: StampedSource, keys: Sequence[str], check: Callable[[str], Shape], content: str
) -> tuple[dict[str, Shape], dict[str, str]]:
    """Checks arrays, each once: what was found good is not read again while its file stays as it is.

    Of packed files only the list of arrays is read, as their numbers were checked when they were packed.

    The record is a file in `checked_arrays` of the folder that the environment variable MESM_CACHE names,
    `~/.cache/mesm_plugin` if it is not set. Where that cannot be written, everything is read each time.

    Args:
        source: Where the arrays lie.
        keys: Of the arrays, which have to be in the source.
        check: Reads the array of a key and returns its shape; raises ValueError or OSError if it is broken.
        content: What `check` looks for, such as "clips"; records of different contents are kept apart.

    Returns:
        The shapes of the good arrays, and what is wrong with the others.
    """
    shapes: dict[str, Shape] = {}
    problems: dict[str, str] = {}
    unpacked = []
    for key in keys:
        shape = source.checked_shape(key)
        if shape is None:
            unpacked.append(key)
        else:
            shapes[key] = shape
    if not unpacked:
        return shapes, problems
    record = _record_of(source.path, content)
    known = _read(record)
    unread = []
    for key in unpacked:
        entry = known.get(key)
        if entry is not None and entry[:2] == list(source.stamp(key)):
            shapes[key] = (entry[2], entry[3])
        else:
            unread.append(key)
    if not unread:
        return shapes, problems
    try:
        for key in track_progress(unread, f"checking {content} of {source.path}", "arrays"):
            try:
                stamp = source.stamp(key)
                shapes[key] = check(key)
            except (OSError, ValueError) as error:
                problems[key] = str(error)
                known.pop(key, None)
                continue
            if time.time() - stamp[1] / 1e9 > _SECONDS_UNTIL_SETTLED:
                known[key] = [*stamp, *shapes[key]]
    finally:
        # Also after an interruption, since reading so far may have taken minutes.
        _write(record, known)
    return shapes, problems


def forget_checked() -> None:
    """Removes all records, so that everything is read again.

    Raises:
        OSError: A record cannot be removed.
    """
    for record in _records().glob("*.json"):
        record.unlink(missing_ok=True)


def _records() -> Path:
    # A folder of its own, as `forget_checked` empties it.
    try:
        return Path(os.environ.get("MESM_CACHE") or "~/.cache/mesm_plugin").expanduser() / "checked_arrays"
    except RuntimeError:
        # There is no home, as for a user whom a container does not know: no record can be read or written.
        return Path(os.devnull) / "checked_arrays"


def _record_of(path: Path, content: str) -> Path:
    name = hashlib.sha256(f"{content} of {os.path.realpath(path)}".encode()).hexdigest()[:32]
    return _records() / f"{name}.json"


def _read(record: Path) -> dict[str, list[int]]:
    try:
        entries: Any = json.loads(record.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    fits = isinstance(entries, dict) and all(
        isinstance(entry, list) and len(entry) == 4 and all(type(number) is int for number in entry)
        for entry in entries.values()
    )
    return entries if fits else {}


def _write(record: Path, entries: dict[str, list[int]]) -> None:
    try:
        with atomic_file(record) as unfinished:
            unfinished.write_text(json.dumps(entries), encoding="utf-8")
    except OSError:
        pass
