# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from mesm_plugin.datasets.files import read_json_lines, read_lines, require_file


def test_existing_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    assert require_file(str(tmp_path / "a.txt"), "word list") == tmp_path / "a.txt"


def test_missing_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"word list not found: .*a\.txt \(looked in .*, which has no file of"):
        require_file(tmp_path / "a.txt", "word list")
    with pytest.raises(FileNotFoundError, match=r"gone, which does not exist\); docs/data.md says how to get it"):
        require_file(tmp_path / "gone" / "a.txt", "word list")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="word list not found"):
        require_file(tmp_path, "word list")


def test_lines_are_divided_by_newlines_only(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("caf\u00e9\u2028x\x0cy\r\nb".encode())
    assert list(read_lines(tmp_path / "a.txt")) == ["caf\u00e9\u2028x\x0cy\r\n", "b"]


def test_lines_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"fine\ncaf\xe9\n")
    with pytest.raises(ValueError, match=r"a\.txt:2: not UTF-8 text \(.*\); convert the file"):
        list(read_lines(tmp_path / "a.txt"))


def test_json_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n[2]')
    assert list(read_json_lines(tmp_path / "a.jsonl")) == [(1, {"a": 1}), (2, [2])]
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n')
    with pytest.raises(ValueError, match=r"a\.jsonl:2: not a line of JSON \(.*\); is the file complete\?"):
        list(read_json_lines(tmp_path / "a.jsonl"))
