# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""IoU of temporal windows, in the two forms that the peers' evaluators use."""

import numpy as np

from mesm_plugin.evaluation.functional.types import FloatArray


def temporal_iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union of windows, with union = length + length - intersection.

    Used by mAP and mIoU. Where the union is empty or negative (windows of zero or negative length) the IoU is 0. The
    peers divide by zero where the lengths add up to zero, and their mAP counts the NaN as a hit: an empty window hits
    any empty moment, a window that ends before it starts hits any moment of the same length.

    Args:
        a: Windows (..., 2) as (start, end), float64, any one unit.
        b: Windows (..., 2), broadcast against `a`.

    Returns:
        IoU (...), float64, between 0 and 1.
    """
    intersection = _intersection(a, b)
    union = (a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - intersection
    return _ratio(intersection, union)


def temporal_hull_iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over the hull of two windows, used by R1; 0 where the hull is empty.

    Equal to `temporal_iou` up to rounding, since the union of two windows that overlap is their hull. The rounding
    decides whether a window hits when its IoU lies on a threshold.

    Args:
        a: Windows (..., 2) as (start, end), float64, any one unit.
        b: Windows (..., 2), broadcast against `a`.

    Returns:
        IoU (...), float64, between 0 and 1.
    """
    hull = np.maximum(a[..., 1], b[..., 1]) - np.minimum(a[..., 0], b[..., 0])
    return _ratio(_intersection(a, b), hull)


def _intersection(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.maximum(np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0]), 0.0)


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
