# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What a registry raises, in words."""

import pytest
from mmengine.registry import Registry

from mesm_plugin.engine.build_errors import explain_build_error

PARTS = Registry("part", scope="test_build_errors", locations=[])


@PARTS.register_module()
class Inner:
    def __init__(self, width, height=1):
        pass


@PARTS.register_module()
class Outer:
    def __init__(self, inner, options=None):
        self.inner = PARTS.build(inner)
        self.plain = Inner(1, **(options or {}))
        if inner.get("height") == 0:
            raise TypeError("a height of 0 makes no sense")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"type": "Inner", "widht": 1}, "Inner has no argument 'widht'; did you mean 'width'"),
        ({"type": "Inner"}, "Inner needs the argument 'width', which the config does not give"),
        ({"type": "Iner"}, "there is no part 'Iner'; did you mean 'Inner'"),
        (
            {"type": "Outer", "inner": {"type": "Inner", "width": 1, "hight": 2}},
            "Inner has no argument 'hight'; did you mean 'height'",
        ),
        (
            {"type": "Outer", "inner": {"type": "Inner", "width": 1}, "options": {"heigt": 2}},
            "Inner has no argument 'heigt'; did you mean 'height'",
        ),
    ],
)
def test_what_cannot_be_built_is_explained(config, expected):
    with pytest.raises((TypeError, KeyError)) as caught:
        PARTS.build(config)
    assert explain_build_error(caught.value).startswith(expected)


def test_errors_of_other_kinds_are_not_explained():
    with pytest.raises(TypeError, match="makes no sense") as caught:
        PARTS.build({"type": "Outer", "inner": {"type": "Inner", "width": 1, "height": 0}})
    assert explain_build_error(caught.value) is None
    with pytest.raises(TypeError) as caught:
        Inner(depth=1)
    assert explain_build_error(caught.value) is None
