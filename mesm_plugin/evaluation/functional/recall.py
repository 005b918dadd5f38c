# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""R1@IoU, R5@IoU and mIoU: how well the windows listed first hit a moment."""

import numpy as np

from mesm_plugin.evaluation.functional.temporal_iou import temporal_hull_iou, temporal_iou
from mesm_plugin.evaluation.functional.types import BoolArray, FloatArray


def recall_at_one(
    windows: FloatArray, moments: FloatArray, moments_mask: BoolArray, thresholds: FloatArray
) -> FloatArray:
    """R1@IoU: the share of queries whose window reaches the IoU threshold with the moment that it overlaps best.

    As in the evaluators of Moment-DETR, QD-DETR and MESM, the IoU that is compared divides by the hull.

    Args:
        windows: (Q, 2) one window a query as (start, end) in seconds, float64; zero-length where there is none.
        moments: (Q, M, 2) true moments in seconds, float64.
        moments_mask: (Q, M) True = valid; at least one a query.
        thresholds: (T,) IoU thresholds above 0.

    Returns:
        (T,) shares between 0 and 1.
    """
    best = _iou_of_moments(windows, moments, moments_mask).argmax(axis=1)
    iou = temporal_hull_iou(windows, moments[np.arange(len(moments)), best])
    return (iou[:, None] >= thresholds).mean(axis=0)


def recall_at(
    count: int, windows: FloatArray, moments: FloatArray, moments_mask: BoolArray, thresholds: FloatArray
) -> FloatArray:
    """R5@IoU and the like: the share of queries of whose first windows any reaches the IoU threshold with any moment.

    Args:
        count: How many windows of a query count.
        windows: (Q, N, 2) windows in the order listed as (start, end) in seconds, float64; zero-length where padded.
        moments: (Q, M, 2) true moments in seconds, float64.
        moments_mask: (Q, M) True = valid; at least one a query.
        thresholds: (T,) IoU thresholds above 0.

    Returns:
        (T,) shares between 0 and 1.
    """
    iou = temporal_hull_iou(windows[:, :count, None], moments[:, None])
    best = np.where(moments_mask[:, None], iou, 0.0).max(axis=(1, 2))
    return (best[:, None] >= thresholds).mean(axis=0)


def mean_iou(windows: FloatArray, moments: FloatArray, moments_mask: BoolArray) -> float:
    """mIoU: the mean over queries of the IoU between the window and the moment that it overlaps best.

    Args:
        windows: (Q, 2) one window a query as (start, end) in seconds, float64; zero-length where there is none.
        moments: (Q, M, 2) true moments in seconds, float64.
        moments_mask: (Q, M) True = valid; at least one a query.

    Returns:
        A value between 0 and 1.
    """
    return float(_iou_of_moments(windows, moments, moments_mask).max(axis=1).mean())


def _iou_of_moments(windows: FloatArray, moments: FloatArray, moments_mask: BoolArray) -> FloatArray:
    return np.where(moments_mask, temporal_iou(windows[:, None], moments), -1.0)
