# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""JSON in files of its own."""

from pathlib import Path

import pytest

from mesm_plugin.utils.json_file import json_text, read_json, write_json


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "new" / "x.json"
    write_json(file, {"a": [1, None]})
    assert file.read_bytes() == b'{\n  "a": [\n    1,\n    null\n  ]\n}\n'
    assert read_json(file, "copy it again") == {"a": [1, None]}


def test_what_is_no_json_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    write_json(file, 1)
    for content in (float("nan"), object()):
        with pytest.raises((ValueError, TypeError)):
            write_json(file, content)
    assert file.read_text() == "1\n"
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_options_are_those_of_json() -> None:
    assert json_text([float("inf"), Path("a")], allow_nan=True, default=str, indent=None) == '[Infinity, "a"]\n'


@pytest.mark.parametrize("content", [b'{"a"', b"\xff", b"[" * 100_000])
def test_damage_is_told_with_its_remedy(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.json is not valid JSON \(.*\); copy it again$"):
        read_json(file, "copy it again")
