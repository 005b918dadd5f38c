# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesm_plugin.evaluation.functional import average_precision


def score(predictions, moments, *thresholds):
    """Average precision of one query at each threshold."""
    mask = np.ones((1, len(moments)), dtype=bool)
    return average_precision(
        np.array([predictions], dtype=float), np.array([moments], dtype=float), mask, np.array(thresholds)
    )[0]


def test_a_second_hit_of_one_moment_is_a_false_positive():
    predictions = [[0, 10, 0.9], [0, 10, 0.8], [20, 30, 0.7]]
    # precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1
    np.testing.assert_allclose(score(predictions, [[0, 10], [20, 30]], 0.5), [1 / 2 + 1 / 2 * 2 / 3])


def test_precision_is_interpolated_from_the_right():
    predictions = [[50, 60, 0.9], [0, 10, 0.8], [20, 30, 0.7]]
    # precision 0, 1/2, 2/3: at recall 1/2 the larger one to the right counts
    np.testing.assert_allclose(score(predictions, [[0, 10], [20, 30]], 0.5), [2 / 3])


def test_a_moment_never_found_costs_its_recall():
    np.testing.assert_allclose(score([[0, 10, 0.9]], [[0, 10], [20, 30], [40, 50]], 0.5), [1 / 3])


def test_windows_are_ranked_by_score():
    np.testing.assert_array_equal(score([[50, 60, 0.1], [0, 10, 0.9]], [[0, 10]], 0.5), [1])
    np.testing.assert_array_equal(score([[50, 60, 0.9], [0, 10, 0.1]], [[0, 10]], 0.5), [1 / 2])


def test_equal_scores_keep_the_order_listed():
    np.testing.assert_array_equal(score([[50, 60, 0.5], [0, 10, 0.5]], [[0, 10]], 0.5), [1 / 2])
    np.testing.assert_array_equal(score([[0, 10, 0.5], [50, 60, 0.5]], [[0, 10]], 0.5), [1])


def test_each_threshold_has_its_own_matching():
    # IoU 0.6 and 1: up to 0.6 the first window takes the moment, above it the second does.
    predictions = [[0, 6, 0.9], [0, 10, 0.8]]
    np.testing.assert_allclose(score(predictions, [[0, 10]], 0.5, 0.6, 0.7), [1, 1, 1 / 2])


def test_a_taken_moment_leaves_the_next_best():
    # Both windows overlap the first moment more; the second one has to be content with the second moment.
    predictions = [[0, 10, 0.9], [1, 10, 0.8]]
    np.testing.assert_allclose(score(predictions, [[0, 10], [2, 12]], 0.5), [1])


def test_of_equal_iou_the_last_listed_moment_is_taken():
    predictions = [[0, 10, 0.9], [0, 5, 0.8]]
    np.testing.assert_allclose(score(predictions, [[0, 5], [5, 10]], 0.5), [1])
    np.testing.assert_allclose(score(predictions, [[5, 10], [0, 5]], 0.5), [1 / 2])


@pytest.mark.parametrize("window", [[3, 3, 0.9], [0, 0, 0.9], [9, 1, 0.9], [-20, -5, 0.9], [900, 990, 0.9]])
def test_degenerate_windows_are_false_positives(window):
    np.testing.assert_array_equal(score([window, [0, 10, 0.5]], [[0, 10]], 0.5, 0.95), [1 / 2, 1 / 2])


def test_empty_moments_are_not_hit_by_empty_windows():
    np.testing.assert_array_equal(score([[3, 3, 0.9]], [[3, 3]], 0.1), [0])


@st.composite
def queries(draw):
    """Ragged queries on a coarse grid, so that IoUs and scores are often equal."""
    window = st.tuples(st.integers(0, 8), st.integers(0, 8)).map(sorted)
    scored = st.tuples(window, st.sampled_from([0.1, 0.5, 0.9])).map(lambda pair: [*pair[0], pair[1]])
    query = st.tuples(st.lists(scored, max_size=5), st.lists(window, min_size=1, max_size=4))
    return draw(st.lists(query, min_size=1, max_size=4))


def one_by_one(predictions, moments, threshold):
    """Average precision of one query, in plain Python, written from its definition."""
    taken, hits = set(), []
    for start, end, _ in sorted(predictions, key=lambda window: -window[2]):
        overlaps = []
        for index, (low, high) in enumerate(moments):
            intersection = max(0.0, min(end, high) - max(start, low))
            union = (end - start) + (high - low) - intersection
            overlaps.append((intersection / union if union > 0 else 0.0, index))
        reached = [index for iou, index in sorted(overlaps, reverse=True) if iou >= threshold and index not in taken]
        taken.update(reached[:1])
        hits.append(bool(reached))
    total = 0.0
    for rank, hit in enumerate(hits):
        if hit:
            total += max(sum(hits[: last + 1]) / (last + 1) for last in range(rank, len(hits)))
    return total / len(moments)


@settings(deadline=None)
@given(queries())
def test_agrees_with_the_definition_on_padded_batches(batch):
    longest = max(1, *(len(predictions) for predictions, _ in batch))
    most = max(len(moments) for _, moments in batch)
    predictions = np.array([p + [[0, 0, -np.inf]] * (longest - len(p)) for p, _ in batch], dtype=float)
    moments = np.array([m + [[0, 8]] * (most - len(m)) for _, m in batch], dtype=float)
    mask = np.array([[index < len(m) for index in range(most)] for _, m in batch])
    thresholds = (0.2, 0.5, 0.75, 1.0)
    np.testing.assert_allclose(
        average_precision(predictions, moments, mask, np.array(thresholds)),
        [[one_by_one(p, m, threshold) for threshold in thresholds] for p, m in batch],
        atol=1e-12,
    )
