# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Subspace similarity on subspaces whose angles are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesm_plugin.analysis import chance_similarity, principal_directions, subspace_similarity


@st.composite
def matrices(draw, channels=9):
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    rows = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    return tuple(rng.standard_normal((n, channels)) for n in rows), rng


def plain(words, clips):
    """The definition, with a singular value decomposition of full matrices of full rank."""
    a, b = (np.linalg.svd(features)[2] for features in (words, clips))
    n, m = len(words), len(clips)
    return [np.linalg.norm(a[:i] @ b[:m].T) ** 2 / min(i, m) for i in range(1, n + 1)]


@given(matrices())
def test_is_the_definition(given_):
    (words, clips), _ = given_
    assert np.allclose(subspace_similarity(words, clips), plain(words, clips))


def test_identical_subspaces():
    rng = np.random.default_rng(0)
    words = rng.standard_normal((4, 16))
    assert np.allclose(subspace_similarity(words, rng.standard_normal((7, 4)) @ words), 1)


def test_orthogonal_subspaces():
    assert np.allclose(subspace_similarity(np.eye(6)[:3], np.eye(6)[3:]), 0)


def test_known_angles():
    # The strongest direction stands at 60 degrees to the plane of the clips, the second at 30, the third lies in it.
    clips = np.eye(6)[:3]
    angles = np.radians([60, 30, 0])
    words = np.cos(angles)[:, None] * np.eye(6)[:3] + np.sin(angles)[:, None] * np.eye(6)[3:]
    words *= np.array([[3.0], [2.0], [1.0]])
    assert subspace_similarity(words, clips) == pytest.approx([0.25, (0.25 + 0.75) / 2, (0.25 + 0.75 + 1) / 3])


def test_more_words_than_clips_are_divided_by_the_clips():
    # One clip along the second of three word directions: phi(1) = 0, then 1 / min(i, 1).
    words = np.diag([3.0, 2.0, 1.0, 0.0])[:3]
    assert subspace_similarity(words, np.eye(4)[1:2]) == pytest.approx([0, 1, 1])


def test_one_word_and_one_clip():
    assert subspace_similarity(np.array([[2.0, 0.0]]), np.array([[3.0, 3.0]])) == pytest.approx([0.5])


@given(matrices())
def test_invariances(given_):
    (words, clips), rng = given_
    expected = subspace_similarity(words, clips)
    rotation = np.linalg.qr(rng.standard_normal((9, 9)))[0]
    assert np.allclose(subspace_similarity(words @ rotation, clips @ rotation), expected)
    assert np.allclose(subspace_similarity(-1e3 * words, 1e-3 * clips), expected)
    assert np.allclose(subspace_similarity(rng.permutation(words), rng.permutation(clips)), expected)
    assert ((expected >= 0) & (expected <= 1)).all()


def test_zero_singular_values_have_no_vectors():
    words = np.array([[1.0, 0, 0, 0], [2, 0, 0, 0], [0, 1, 0, 0]], dtype=np.float32)
    assert len(principal_directions(words)) == 2
    repeated = np.tile(np.array([[0.3, 0.1, 0.7, 0.0]], dtype=np.float32), (5, 1))
    assert len(principal_directions(repeated)) == 1
    assert subspace_similarity(words, np.eye(4)[:1]) == pytest.approx([1, 1])
    assert subspace_similarity(words, np.eye(4)[2:]) == pytest.approx([0, 0])


def test_rounding_of_float32_is_no_direction():
    words = (np.ones((6, 8)) * np.arange(1, 7)[:, None] / 7).astype(np.float32)
    assert len(principal_directions(words + 1e-7 * np.random.default_rng(0).standard_normal((6, 8)))) == 1
    assert len(principal_directions(words, tolerance=0.0)) > 1


def test_directions_are_orthonormal_and_ordered():
    directions = principal_directions(np.diag([1.0, 3.0, 2.0]))
    assert np.allclose(np.abs(directions), np.eye(3)[[1, 2, 0]])
    assert np.allclose(directions @ directions.T, np.eye(3))


def test_chance_is_the_mean_over_random_subspaces():
    rng = np.random.default_rng(0)
    drawn = [subspace_similarity(rng.standard_normal((6, 20)), rng.standard_normal((4, 20))) for _ in range(400)]
    assert chance_similarity(6, 4, 20) == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.25, 0.3])
    assert np.allclose(np.mean(drawn, axis=0), chance_similarity(6, 4, 20), atol=0.01)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((3, 4)), "all features are zero"),
        (np.full((3, 4), np.nan), "features hold nan or inf"),
        (np.ones(4), r"features have shape \(4,\), expected \(rows, channels\)"),
        (np.ones((0, 4)), r"features have shape \(0, 4\)"),
    ],
)
def test_features_without_a_subspace(features, message):
    with pytest.raises(ValueError, match=message):
        subspace_similarity(np.eye(4), features)


def test_other_channels():
    with pytest.raises(ValueError, match="features of 4 and 5 channels do not live in one space"):
        subspace_similarity(np.eye(4), np.eye(5))
