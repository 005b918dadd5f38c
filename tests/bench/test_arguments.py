# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import argparse

import pytest

from bench.arguments import positive


def test_whole_numbers_from_one_on() -> None:
    assert [positive(text) for text in ("1", "20")] == [1, 20]


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many"])
def test_others_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"must be at least 1, got {text}"):
        positive(text)
