# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from mesm_plugin.evaluation.functional import mean_iou, recall_at, recall_at_one

MOMENTS = np.array([[[0, 10], [20, 30]], [[0, 10], [0, 0]], [[0, 10], [4, 8]]], dtype=float)
MASK = np.array([[True, True], [True, False], [True, True]])


def test_the_moment_of_largest_iou_counts():
    windows = np.array([[20, 28], [5, 15], [4, 8]], dtype=float)
    assert mean_iou(windows, MOMENTS, MASK) == pytest.approx((0.8 + 1 / 3 + 1.0) / 3)
    np.testing.assert_allclose(
        recall_at_one(windows, MOMENTS, MASK, np.array([0.3, 0.5, 0.8, 0.9])), [1, 2 / 3, 2 / 3, 1 / 3]
    )


def test_a_threshold_is_reached_by_equality():
    windows = np.array([[0, 5]], dtype=float)
    np.testing.assert_array_equal(recall_at_one(windows, MOMENTS[:1], MASK[:1], np.array([0.5, 0.5001])), [1, 0])


def test_padded_moments_are_never_hit():
    moments = np.array([[[0, 10], [50, 60]]], dtype=float)
    windows = np.array([[50, 60]], dtype=float)
    mask = np.array([[True, False]])
    assert mean_iou(windows, moments, mask) == 0
    np.testing.assert_array_equal(recall_at_one(windows, moments, mask, np.array([0.1])), [0])


def test_a_zero_length_window_misses():
    windows = np.array([[5, 5], [0, 0], [8, 8]], dtype=float)
    assert mean_iou(windows, MOMENTS, MASK) == 0
    np.testing.assert_array_equal(recall_at_one(windows, MOMENTS, MASK, np.array([0.1, 0.5])), [0, 0])


def test_any_of_the_first_windows_counts():
    windows = np.array(
        [
            [[90, 99], [20, 28], [0, 10]],
            [[5, 15], [0, 0], [0, 0]],
            [[60, 70], [70, 80], [4, 8]],
        ],
        dtype=float,
    )
    thresholds = np.array([0.3, 0.8, 0.9])
    np.testing.assert_allclose(recall_at(2, windows, MOMENTS, MASK, thresholds), [2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(recall_at(3, windows, MOMENTS, MASK, thresholds), [1, 2 / 3, 2 / 3])
    np.testing.assert_allclose(recall_at(5, windows, MOMENTS, MASK, thresholds), [1, 2 / 3, 2 / 3])
    first = recall_at_one(windows[:, 0], MOMENTS, MASK, thresholds)
    np.testing.assert_allclose(recall_at(1, windows, MOMENTS, MASK, thresholds), first)
    # What a padded moment covers is no hit.
    np.testing.assert_array_equal(recall_at(5, windows[:1], MOMENTS[:1, ::-1], MASK[1:2], thresholds), [1, 1, 0])
