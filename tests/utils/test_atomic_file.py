# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Output files that appear whole or not at all."""

import pytest

from mesm_plugin.utils.atomic_file import atomic_file


def test_file_appears_at_the_end(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_file(path) as unfinished:
        unfinished.write_text("x")
        assert not path.exists()
    assert path.read_text() == "x"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_file_is_kept_after_an_error(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with atomic_file(path) as unfinished:
            unfinished.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_errors_name_the_file_that_was_asked_for(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as raised, atomic_file(tmp_path / "folder") as unfinished:
        unfinished.write_text("x")
    assert raised.value.filename == str(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
