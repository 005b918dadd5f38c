# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""How much of one set of features lies in the subspace of another (Hamm and Lee, 2008; Hu et al., 2021)."""

import numpy as np


def principal_directions(features: np.ndarray, tolerance: float | None = None) -> np.ndarray:
    """The right singular vectors of features, those of the largest singular values first.

    Features are rows, so it is the right singular vectors that live in the space of the channels, which two sets of
    features have in common; the left ones mix rows. The vectors of zero singular values are arbitrary and left out.

    Args:
        features: (n, D).
        tolerance: Singular values up to so many times the largest count as zero; None = the rounding of float32, which
            networks compute in, times the longer side.

    Returns:
        (rank, D) float64 with orthonormal rows; the rank is at most min(n, D).

    Raises:
        ValueError: The features are no matrix, are not finite, or all zero.
    """
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"features have shape {features.shape}, expected (rows, channels), at least one of each")
    if not np.isfinite(features).all():
        raise ValueError("features hold nan or inf, expected finite numbers")
    if tolerance is None:
        tolerance = max(features.shape) * float(np.finfo(np.float32).eps)
    _, values, directions = np.linalg.svd(features, full_matrices=False)
    if values[0] == 0:
        raise ValueError("all features are zero, so they span no subspace")
    return directions[values > tolerance * values[0]]


def subspace_similarity(features: np.ndarray, other: np.ndarray, tolerance: float | None = None) -> np.ndarray:
    """Similarity of the subspaces of the top i singular vectors of `features` to that of all of `other`.

    With V_A (i, D) the top i right singular vectors of `features` and V_B (j, D) all j of `other`, it is

        phi(i) = || V_A V_B^T ||_F^2 / min(i, j),

    the mean of the squared cosines of the principal angles between the two subspaces: 1 if the smaller lies in the
    larger, 0 if they are orthogonal. It depends neither on the order nor on a common scale of the rows, nor on a
    rotation of the space of channels that both share.

    Args:
        features: (n, D), the words of a query.
        other: (m, D), the clips of a segment.
        tolerance: See `principal_directions`.

    Returns:
        (rank of `features`,) float64, phi(1), phi(2), ...

    Raises:
        ValueError: The channels differ in number, or one of both has no subspace.
    """
    first, second = principal_directions(features, tolerance), principal_directions(other, tolerance)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"features of {first.shape[1]} and {second.shape[1]} channels do not live in one space")
    squared = ((first @ second.T) ** 2).sum(axis=1)
    count = np.arange(1, len(first) + 1)
    return np.clip(np.cumsum(squared) / np.minimum(count, len(second)), 0.0, 1.0)


def chance_similarity(rank: int, other_rank: int, channels: int) -> np.ndarray:
    """What `subspace_similarity` is on average between random subspaces: max(i, j) / D.

    Args:
        rank: The largest i.
        other_rank: j.
        channels: D.

    Returns:
        (rank,) float64.
    """
    return np.maximum(np.arange(1, rank + 1), other_rank) / channels
