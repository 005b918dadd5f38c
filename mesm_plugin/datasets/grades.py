# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Graded clips: several annotators say how well each clip of a moment suits the sentence."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class FittedGrades(NamedTuple):
    """The grades of a query on the clips of its video's features.

    Attributes:
        inside: (Lv,) bool, the graded clips.
        saliency: (Lv,) float32, sum of the annotators' grades; 0 elsewhere.
        extremes: (2,) int64, the clips graded highest and lowest.
    """

    inside: np.ndarray
    saliency: np.ndarray
    extremes: np.ndarray


def fit_grades(clips: Sequence[int], grades: Sequence[Sequence[float]], num_clips: int) -> FittedGrades:
    """Lays the grades of some clips on the clips of the features, which can be fewer than the annotated ones.

    As in Moment-DETR and after it, the grades of the annotators are added, and of equal sums the last listed clip is
    the highest and the first listed the lowest one. Either is moved to the last clip where it lies beyond the features.
    Other clips beyond them are dropped, but one is left inside.

    Args:
        clips: Indices of the n graded clips.
        grades: (n, annotators).
        num_clips: Lv, at least 1.
    """
    indices, sums = np.asarray(clips, dtype=np.int64), np.asarray(grades, dtype=np.float32).sum(axis=1)
    within = indices < num_clips
    saliency = np.zeros(num_clips, dtype=np.float32)
    saliency[indices[within]] = sums[within]
    inside = np.zeros(num_clips, dtype=bool)
    inside[indices[within]] = True
    inside[-1] |= not within.any()
    order = np.argsort(sums, kind="stable")
    extremes = indices[order[[-1, 0]]].clip(max=num_clips - 1)
    return FittedGrades(inside, saliency, extremes)
