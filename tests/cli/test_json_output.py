# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""JSON in a file or on standard output."""

from pathlib import Path

import pytest

from mesm_plugin.cli.json_output import output_json


def test_a_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.json"
    output_json([1], str(file))
    assert file.read_text() == "[\n  1\n]\n"
    assert capsys.readouterr().out == f"JSON: {file}\n"


def test_standard_output_holds_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    output_json([1], "-")
    assert capsys.readouterr().out == "[\n  1\n]\n"
