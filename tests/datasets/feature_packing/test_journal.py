# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mesm_plugin.datasets.feature_packing.journal import ArrayJournal

FIRST = np.arange(6, dtype=np.float32).reshape(3, 2)
SECOND = np.ones((1, 2), dtype=np.float16)


def write(folder: Path) -> None:
    with ArrayJournal(folder, {"key": None}) as journal:
        journal.add("a", FIRST, {"n": 1})
        journal.add("b", SECOND, {})


def test_arrays_are_there_again(tmp_path: Path) -> None:
    write(tmp_path)
    with ArrayJournal(tmp_path, {"key": None}) as journal:
        assert list(journal.records) == ["a", "b"]
        assert journal.records["a"].info == {"n": 1}
        journal.add("a", FIRST[:, ::-1].astype(">f8"), {})
    with ArrayJournal(tmp_path, {"key": None}) as journal:
        assert journal.read("a").tolist() == FIRST[:, ::-1].tolist()
        assert journal.read("b").dtype == np.float16


def test_any_cut_leaves_whole_arrays(tmp_path: Path) -> None:
    """Whatever the index or the arrays are cut to, what is left is right and can be added to."""
    write(tmp_path)
    whole = {name: (tmp_path / name).read_bytes() for name in ("index.jsonl", "arrays.bin")}
    for name, content in whole.items():
        for length in range(len(content) + 1):
            for other in whole:
                (tmp_path / other).write_bytes(content[:length] if other == name else whole[other])
            with ArrayJournal(tmp_path, {"key": None}) as journal:
                kept = list(journal.records)
                assert kept == ["a", "b"][: len(kept)]
                journal.add("c", SECOND, {})
            with ArrayJournal(tmp_path, {"key": None}) as journal:
                assert list(journal.records) == [*kept, "c"]
                for id_, array in zip(kept, (FIRST, SECOND), strict=False):
                    assert np.array_equal(journal.read(id_), array)
                assert np.array_equal(journal.read("c"), SECOND)


def test_other_options_begin_anew(tmp_path: Path) -> None:
    write(tmp_path)
    with ArrayJournal(tmp_path, {"key": "x"}) as journal:
        assert journal.records == {}
        assert journal.discarded == 2
    assert (tmp_path / "arrays.bin").stat().st_size == 0


def test_changed_bytes_are_noticed(tmp_path: Path) -> None:
    write(tmp_path)
    content = bytearray((tmp_path / "arrays.bin").read_bytes())
    content[3] ^= 1
    (tmp_path / "arrays.bin").write_bytes(content)
    with ArrayJournal(tmp_path, {"key": None}) as journal:
        assert np.array_equal(journal.read("b"), SECOND)
        with pytest.raises(ValueError, match=r"arrays\.bin is damaged at a; remove .* and begin anew"):
            journal.read("a")


def test_two_runs_at_a_time(tmp_path: Path) -> None:
    with ArrayJournal(tmp_path, {}), pytest.raises(ValueError, match="another run is writing to"):
        ArrayJournal(tmp_path, {})


def test_full_disk_keeps_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(file: int, content: Any, offset: int, write: Any = os.pwrite) -> int:
        if len(content) < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, content[: len(content) // 2], offset)

    with ArrayJournal(tmp_path, {"key": None}) as journal:
        journal.add("a", FIRST, {})
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", half)
            with pytest.raises(OSError, match="No space left on device; what is finished is kept") as error:
                journal.add("b", SECOND, {})
        assert error.value.filename == str(tmp_path / "arrays.bin")
    with ArrayJournal(tmp_path, {"key": None}) as journal:
        assert list(journal.records) == ["a"]
        assert np.array_equal(journal.read("a"), FIRST)
