# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A broken file is refused by its name, or read to something sane; `tests.fuzz.trial` tries thousands more."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fuzz.file_kind import BadReading, FileKind
from tests.fuzz.kinds import KINDS
from tests.fuzz.trial import read_broken_files

FILES = 60
of_each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@of_each_kind
def test_broken_files(kind: FileKind, tmp_path: Path) -> None:
    accepted, refused, failures = read_broken_files(kind, range(FILES), 1, tmp_path)
    assert failures == []
    assert accepted + refused == FILES
    # Most changes break a file, and a reader that refuses none is none.
    assert refused >= FILES // 4


@of_each_kind
@pytest.mark.parametrize("state", ["missing", "folder", "empty", "not permitted"])
def test_file_that_cannot_be_read(kind: FileKind, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = kind.write(tmp_path)
    if state == "not permitted":
        _forbid(file, monkeypatch)
    elif state == "empty":
        file.write_bytes(b"")
    else:
        file.unlink()
        if state == "folder":
            file.mkdir()
    message = kind.check(file)
    # A run can be compared without the record of its start.
    assert message is not None or (kind.name == "run_record" and state in ("missing", "folder"))


def _forbid(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a file unreadable, also for the superuser, as far as Python opens it."""
    file.chmod(0)
    opened: Any = open

    def refuse(name: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(name, int) and os.fspath(name) == str(file):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
        return opened(name, *args, **kwargs)

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("io.open", refuse)
    # HDF5 opens files by itself.
    monkeypatch.setattr("h5py.File", refuse)


def test_the_trial_finds_bad_readers(tmp_path: Path) -> None:
    def write(folder: Path) -> Path:
        np.save(folder / "a.npy", np.ones(3))
        return folder / "a.npy"

    def reads(function: Any) -> FileKind:
        return FileKind("bad", write, function, lambda content, rng: b"")

    def runs(file: Path) -> None:
        if not file.stat().st_size:
            os.system("true")

    for number, (reader, problem) in enumerate(
        [(lambda file: np.load(file, allow_pickle=True), "No data left in file"), (runs, "os.system")]
    ):
        _, _, failures = read_broken_files(reads(reader), range(1), 0, tmp_path / str(number))
        assert len(failures) == 1
        assert problem in failures[0]
    with pytest.raises(BadReading, match=r"a\.npy is not named"):
        reads(lambda file: (_ for _ in ()).throw(OSError("broken"))).check(write(tmp_path))
