# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest

from bench.overlap import measure, share_before_the_last_tenth


def test_share_of_bytes() -> None:
    # From 1 to 6, so that the last tenth begins at 5.5.
    handed = [(1.0, 30), (5.4, 10), (5.6, 20), (6.0, 60)]
    assert share_before_the_last_tenth(handed, 1.0) == pytest.approx(40 / 120)
    assert share_before_the_last_tenth(handed[-1:], 1.0) == 0


def test_small_buckets_are_handed_over_one_by_one() -> None:
    small, whole = measure(2, 4, 1), measure(2, 1000, 1)
    assert small["buckets"] > 5
    assert whole["buckets"] <= 2
    for row in (small, whole):
        # The last bucket of all is in the last tenth.
        assert 0 <= row["share_before_the_last_tenth"] < 1
        assert row["seconds"] > 0
