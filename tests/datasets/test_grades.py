# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from mesm_plugin.datasets.grades import fit_grades

GRADES = [[1, 2, 3], [4, 4, 4], [0, 0, 0], [4, 4, 4], [2, 2, 2]]


def test_sums_lie_on_their_clips() -> None:
    inside, saliency, extremes = fit_grades([1, 2, 3, 6, 7], GRADES, 9)
    assert inside.dtype == bool
    assert np.flatnonzero(inside).tolist() == [1, 2, 3, 6, 7]
    assert saliency.dtype == np.float32
    assert saliency.tolist() == [0, 6, 12, 0, 0, 0, 12, 6, 0]
    # Of the two clips graded 12 the last one.
    assert extremes.dtype == np.int64
    assert extremes.tolist() == [6, 3]


def test_of_equal_grades_the_first_is_the_lowest() -> None:
    assert fit_grades([4, 5, 6], [[2, 2, 2]] * 3, 9).extremes.tolist() == [6, 4]
    # Also where an unstable sort would mix them up.
    assert fit_grades(list(range(70)), [[2, 2, 2]] * 70, 75).extremes.tolist() == [69, 0]


@pytest.mark.parametrize(
    ("num_clips", "inside", "saliency", "extremes"),
    [
        (7, [1, 2, 3, 6], [0, 6, 12, 0, 0, 0, 12], [6, 3]),
        # The highest graded clip, 6, is moved to the last one.
        (6, [1, 2, 3], [0, 6, 12, 0, 0, 0], [5, 3]),
        (1, [0], [0], [0, 0]),
    ],
)
def test_clips_beyond_the_features(
    num_clips: int, inside: list[int], saliency: list[float], extremes: list[int]
) -> None:
    fitted = fit_grades([1, 2, 3, 6, 7], GRADES, num_clips)
    assert np.flatnonzero(fitted.inside).tolist() == inside
    assert fitted.saliency.tolist() == saliency
    assert fitted.extremes.tolist() == extremes
