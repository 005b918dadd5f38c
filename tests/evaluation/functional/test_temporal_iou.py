# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesm_plugin.evaluation.functional import temporal_hull_iou, temporal_iou

SECONDS = st.floats(-1e4, 1e4, allow_nan=False)
WINDOWS = st.tuples(SECONDS, SECONDS).map(sorted).map(np.array)


@pytest.mark.parametrize("iou", [temporal_iou, temporal_hull_iou])
@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 10), (5, 15), 1 / 3),
        ((0, 10), (0, 10), 1.0),
        ((0, 10), (2, 4), 0.2),
        ((0, 10), (10, 20), 0.0),
        ((0, 10), (30, 40), 0.0),
        ((-5, 5), (0, 10), 1 / 3),
        ((3, 3), (0, 10), 0.0),
        ((3, 3), (3, 3), 0.0),
        ((3, 3), (7, 7), 0.0),
        ((10, 0), (0, 10), 0.0),
        ((9, 1), (0, 2), 0.0),
    ],
    ids=str,
)
def test_iou_by_hand(iou, a, b, expected):
    assert iou(np.array(a, dtype=float), np.array(b, dtype=float)) == pytest.approx(expected, abs=1e-15)


@settings(deadline=None)
@given(WINDOWS, WINDOWS)
def test_iou_is_symmetric_and_between_0_and_1(a, b):
    for iou in (temporal_iou, temporal_hull_iou):
        value = iou(a, b)
        assert value == iou(b, a)
        assert 0 <= value <= 1


@settings(deadline=None)
@given(WINDOWS, WINDOWS)
def test_both_forms_agree_up_to_rounding(a, b):
    # Lengths from differences of times near 1e4 s carry an absolute error of about 1e-12 s.
    if min(a[1] - a[0], b[1] - b[0]) > 1e-3:
        assert temporal_iou(a, b) == pytest.approx(temporal_hull_iou(a, b), abs=1e-8)


@settings(deadline=None)
@given(WINDOWS)
def test_a_window_covers_itself(window):
    expected = float(window[1] > window[0])
    assert temporal_iou(window, window) == expected
    assert temporal_hull_iou(window, window) == expected


def test_iou_broadcasts():
    windows = np.array([[0.0, 10.0], [20.0, 30.0]])
    moments = np.array([[0.0, 5.0], [0.0, 20.0], [25.0, 30.0]])
    np.testing.assert_array_equal(temporal_iou(windows[:, None], moments), [[0.5, 0.5, 0.0], [0.0, 0.0, 0.5]])
