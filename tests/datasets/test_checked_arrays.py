# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mesm_plugin.datasets.array_files import ArrayFolder
from mesm_plugin.datasets.checked_arrays import check_arrays, forget_checked


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArrayFolder:
    """Arrays of 1, 2 and 3 rows in files that are long settled, and an empty cache."""
    monkeypatch.setenv("MESM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "clips").mkdir()
    for rows, name in enumerate("abc", 1):
        _write(tmp_path / "clips" / f"{name}.npy", np.ones((rows, 4)))
    return ArrayFolder(tmp_path / "clips", [".npy"])


def _write(path: Path, array: np.ndarray, age: float = 60) -> None:
    np.save(path, array)
    settled = path.stat().st_mtime - age
    os.utime(path, (settled, settled))


@pytest.fixture
def check(folder: ArrayFolder) -> Callable[..., tuple[dict, dict, list[str]]]:
    """Checks a, b and c; returns shapes, problems and which were read."""

    def run(content: str = "clips") -> tuple[dict, dict, list[str]]:
        read = []

        def shape_of(key: str) -> tuple[int, int]:
            read.append(key)
            array = folder.read(key)
            if np.isnan(array).any():
                raise ValueError(f"{key} has NaN")
            return array.shape[0], array.shape[1]

        return *check_arrays(folder, ["a", "b", "c"], shape_of, content), read

    return run


SHAPES = {"a": (1, 4), "b": (2, 4), "c": (3, 4)}


def test_good_arrays_are_read_once(check: Callable) -> None:
    assert check() == (SHAPES, {}, ["a", "b", "c"])
    assert check() == (SHAPES, {}, [])
    assert check("words") == (SHAPES, {}, ["a", "b", "c"])
    forget_checked()
    assert check() == (SHAPES, {}, ["a", "b", "c"])


def test_changed_and_broken_arrays_are_read_again(check: Callable, folder: ArrayFolder) -> None:
    check()
    _write(folder.path / "b.npy", np.full((2, 4), np.nan), age=30)
    problems = {"b": "b has NaN"}
    assert check() == ({"a": (1, 4), "c": (3, 4)}, problems, ["b"])
    assert check() == ({"a": (1, 4), "c": (3, 4)}, problems, ["b"])
    _write(folder.path / "b.npy", np.ones((5, 4)), age=20)
    assert check() == (SHAPES | {"b": (5, 4)}, {}, ["b"])
    assert check()[2] == []


def test_what_was_good_and_broke_unnoticed_is_found_afresh(check: Callable, folder: ArrayFolder) -> None:
    check()
    path = folder.path / "c.npy"
    before = path.stat()
    np.save(path, np.full((3, 4), np.nan))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert check()[1] == {}
    forget_checked()
    assert check()[1] == {"c": "c has NaN"}


def test_files_that_may_still_be_written_are_read_again(check: Callable, folder: ArrayFolder) -> None:
    _write(folder.path / "a.npy", np.ones((1, 4)), age=0)
    assert check()[2] == ["a", "b", "c"]
    assert check()[2] == ["a"]


@pytest.mark.parametrize("content", ["", "[]", '{"a": 3}', '{"a": [1, 2, 3, "4"]}', "[" * 100_000, "\xff"])
def test_broken_record(check: Callable, tmp_path: Path, content: str) -> None:
    check()
    (record,) = (tmp_path / "cache" / "checked_arrays").iterdir()
    record.write_text(content, encoding="latin-1")
    assert check() == (SHAPES, {}, ["a", "b", "c"])
    assert check()[2] == []


def test_without_a_cache_that_can_be_written(check: Callable, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    assert check()[2] == ["a", "b", "c"]
    assert check() == (SHAPES, {}, ["a", "b", "c"])


def test_without_a_home(check: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MESM_CACHE")
    monkeypatch.setattr(Path, "expanduser", homeless)
    for _ in range(2):
        assert check() == (SHAPES, {}, ["a", "b", "c"])
        forget_checked()


def test_other_files_of_the_cache_are_kept(check: Callable, tmp_path: Path) -> None:
    check()
    (tmp_path / "cache" / "results.json").write_text("{}")
    forget_checked()
    assert [path.name for path in (tmp_path / "cache").rglob("*.json")] == ["results.json"]


def test_a_link_that_leads_elsewhere_is_read_again(check: Callable, folder: ArrayFolder, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name, shape in SHAPES.items():
        np.save(other / f"{name}.npy", np.full(shape, np.nan))
        state = (folder.path / f"{name}.npy").stat()
        os.utime(other / f"{name}.npy", ns=(state.st_atime_ns, state.st_mtime_ns))
    folder.path, target = tmp_path / "link", folder.path
    folder.path.symlink_to(target)
    assert check()[1] == {}
    folder.path.unlink()
    folder.path.symlink_to(other)
    assert check()[1].keys() == SHAPES.keys()


def test_interruption_keeps_what_was_done(folder: ArrayFolder, check: Callable) -> None:
    def interrupted(key: str) -> tuple[int, int]:
        if key == "c":
            raise KeyboardInterrupt
        return 1, 4

    with pytest.raises(KeyboardInterrupt):
        check_arrays(folder, ["a", "b", "c"], interrupted, "clips")
    assert check()[2] == ["c"]
