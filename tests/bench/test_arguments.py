# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import argparse
from pathlib import Path

import pytest

from bench.arguments import positive, released_checkout


def test_whole_numbers_from_one_on() -> None:
    assert [positive(text) for text in ("1", "20")] == [1, 20]


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many"])
def test_others_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"must be at least 1, got {text}"):
        positive(text)


def test_a_checkout_of_the_released_code_has_a_runner(tmp_path: Path) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"{tmp_path} has no runner.py: name a checkout of"):
        released_checkout(str(tmp_path))
    (tmp_path / "runner.py").touch()
    assert released_checkout(str(tmp_path)) == tmp_path
