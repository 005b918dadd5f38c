# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest

from bench.overlap import measure, shares_before


def test_share_of_bytes() -> None:
    assert shares_before([(1.0, 30), (2.0, 10), (3.0, 60)], 2.5) == pytest.approx(0.4)


def test_small_buckets_are_reduced_earlier() -> None:
    small, whole = measure(2, 4, 1), measure(2, 1000, 1)
    assert small["buckets"] > 5
    assert whole["buckets"] <= 2
    assert small["share_before_the_last_tenth"] > whole["share_before_the_last_tenth"]
