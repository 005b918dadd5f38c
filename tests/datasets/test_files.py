# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from mesm_plugin.datasets.files import read_json, read_json_lines, read_lines, require_file


def test_existing_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    assert require_file(str(tmp_path / "a.txt"), "word list") == tmp_path / "a.txt"


def test_missing_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"word list not found: .*a\.txt \(looked in .*, which has no file of"):
        require_file(tmp_path / "a.txt", "word list")
    with pytest.raises(FileNotFoundError, match=r"gone, which does not exist\); docs/data.md says how to get it"):
        require_file(tmp_path / "gone" / "a.txt", "word list")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="word list not found: .* is a folder, expected a file"):
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


def test_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": {"b": 1},\n "b": {"b": 2}}')
    assert read_json(tmp_path / "a.json") == {"a": {"b": 1}, "b": {"b": 2}}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"a": 1,\n "b": [1, ', r"a\.json:2: not JSON \(.*\); is the file complete\?"),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', r"a\.json: the key 'b' occurs twice in an object"),
        (b'{"a":\n"caf\xe9"}', r"a\.json:2: not UTF-8 text"),
    ],
)
def test_bad_json(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=problem):
        read_json(tmp_path / "a.json")


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf{}\n[1]\n")
    assert list(read_lines(tmp_path / "a.txt")) == ["{}\n", "[1]\n"]
    assert list(read_json_lines(tmp_path / "a.txt")) == [(1, {}), (2, [1])]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[" * 100_000, "lists or objects are nested too deeply"),
        (b"9" * 5000, "a number has 5000 digits, expected fewer"),
        (rb'{"sentence": "\ud83d"}', r"a text has half of a character \(.*surrogates not allowed\); correct it"),
        (b'{"qid": 1, "qid": 2}', "the key 'qid' occurs twice in an object"),
    ],
)
def test_json_that_is_no_data(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.json: {problem}"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.jsonl").write_bytes(b"{}\n" + content)
    with pytest.raises(ValueError, match=rf"a\.jsonl:2: {problem}"):
        list(read_json_lines(tmp_path / "a.jsonl"))


def test_pairs_of_escapes_are_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(rb'["\ud83d\ude00"]')
    assert read_json(tmp_path / "a.json") == ["\U0001f600"]
