# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest

from mesm_plugin.utils import listed


@pytest.mark.parametrize(
    ("names", "expected"),
    [("", ""), ("a", "a"), ("ab", "a, b"), ("abc", "a, b and 1 more"), ([1, 2, 3, 4], "1, 2 and 2 more")],
)
def test_listed(names: list[object], expected: str) -> None:
    assert listed(names, 2) == expected
