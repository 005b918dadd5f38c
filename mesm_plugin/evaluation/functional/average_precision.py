# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Average precision of ranked windows, one value per query and IoU threshold."""

import numpy as np
import numpy.typing as npt

from mesm_plugin.evaluation.functional.temporal_iou import temporal_iou
from mesm_plugin.evaluation.functional.types import BoolArray, FloatArray


def average_precision(
    predictions: FloatArray, moments: FloatArray, moments_mask: BoolArray, thresholds: FloatArray
) -> FloatArray:
    """Interpolated average precision (VOC 2011) of each query's windows, at each IoU threshold.

    Windows are ranked by score, equal scores in the order listed. Each in turn takes, among the moments not yet taken
    at that threshold, the one it overlaps best, and is a hit if their IoU reaches the threshold; of moments with
    equal IoU it takes the last listed. This is the matching of the evaluators of Moment-DETR, QD-DETR and MESM, but
    for one thing: they sort IoUs with an unstable sort, so their choice among equal IoUs depends on the processor.

    Args:
        predictions: (Q, N, 3) start and end in seconds and score, float64. Queries with fewer than N windows are
            filled up with zero-length windows of score -inf.
        moments: (Q, M, 2) true moments in seconds, float64.
        moments_mask: (Q, M) True = valid; at least one a query.
        thresholds: (T,) IoU thresholds above 0.

    Returns:
        (Q, T) values between 0 and 1.
    """
    order = np.argsort(-predictions[..., 2], axis=1, kind="stable")
    windows = np.take_along_axis(predictions[..., :2], order[..., None], axis=1)
    result = np.empty((len(windows), len(thresholds)))
    # Most queries have a moment or two and few have many: those of up to 2, 4, 8, ... go together, with little padding.
    widths = 2 ** np.ceil(np.log2(moments_mask.sum(axis=1))).astype(int)
    for width in np.unique(widths):
        rows = np.flatnonzero(widths == width)
        valid_first = np.argsort(~moments_mask[rows], axis=1, kind="stable")[:, :width]
        group = np.take_along_axis(moments[rows], valid_first[..., None], axis=1)
        mask = np.take_along_axis(moments_mask[rows], valid_first, axis=1)
        iou = np.where(mask[:, None], temporal_iou(windows[rows][:, :, None], group[:, None]), -1.0)
        result[rows] = _interpolated(_match(iou, thresholds), mask.sum(axis=1))
    return result


def _interpolated(hits: BoolArray, num_moments: npt.NDArray[np.int64]) -> FloatArray:
    """Average precision (Q, T) of ranked hits (N, Q, T)."""
    found = hits.cumsum(axis=0)
    ranks = np.arange(1, len(found) + 1)[:, None, None]
    precision = np.maximum.accumulate((found / ranks)[::-1], axis=0)[::-1]
    recall = found / num_moments[:, None]
    return (np.diff(recall, axis=0, prepend=0.0) * precision).sum(axis=0)


def _match(iou: FloatArray, thresholds: FloatArray) -> BoolArray:
    """Matches ranked windows to moments greedily; `iou` is (Q, N, M), the result (N, Q, T), True = hit."""
    iou = iou[..., ::-1]  # argmax returns the first maximum, the peers take the last listed moment
    queries, ranks, moments = iou.shape
    free = np.ones((queries, len(thresholds), moments), dtype=bool)
    hits = np.empty((ranks, queries, len(thresholds)), dtype=bool)
    for rank in range(ranks):
        overlap = iou[:, rank, None]
        candidates = np.where(free & (overlap >= thresholds[:, None]), overlap, 0.0)
        best = candidates.argmax(axis=-1)[..., None] == np.arange(moments)
        hits[rank] = candidates.any(axis=-1)
        free &= ~(best & hits[rank][..., None])
    return hits
