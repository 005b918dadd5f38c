# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Output files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a path to write to, which replaces `path` when the block ends without an error.

    What was written is on the disk before it replaces `path`, so that a crash of the machine leaves the old file or the
    new one. Folders of `path` that do not exist are made. After an error what was written is removed and `path` is as
    before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield unfinished
        _flush(unfinished)
        os.replace(unfinished, path)
        _flush(path.parent)
    except OSError as error:
        # The name that the caller knows.
        if error.filename is not None and Path(error.filename) == unfinished:
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def remove_unfinished(folder: str | os.PathLike[str]) -> list[Path]:
    """Removes what processes that were killed left unfinished in a folder; returns what was removed."""
    left = [path for path in Path(folder).glob(".*.tmp") if (pid := path.suffixes[-2:-1]) and _is_dead(pid[0][1:])]
    for path in left:
        path.unlink(missing_ok=True)
    return left


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_dead(pid: str) -> bool:
    if not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
