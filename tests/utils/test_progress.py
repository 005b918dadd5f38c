# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import re
import sys
import time

import pytest

from mesm_plugin.utils.progress import track_progress


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    assert list(track_progress(list(range(7)), "packing", "files")) == list(range(7))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0] == "packing: 2 of 7 files, 0 a second, 30 s left"
    assert re.match("packing: 5 of 7 files", lines[1])


def test_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(track_progress("abc", "packing", "files")) == ["a", "b", "c"]
    assert "3/3" in capsys.readouterr().err
