# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Arithmetic on spans: a span is a moment divided by the duration, `xx` = (start, end) or `cxw` = (centre, width)."""

import torch
from torch import Tensor

SHORTEST = 1e-12
"""What is not longer than this counts as empty."""


def cxw_to_xx(spans: Tensor) -> Tensor:
    """Turns (centre, width) into (start, end); `spans` is (..., 2)."""
    centre, width = spans.unbind(-1)
    return torch.stack((centre - 0.5 * width, centre + 0.5 * width), dim=-1)


def xx_to_cxw(spans: Tensor) -> Tensor:
    """Turns (start, end) into (centre, width); `spans` is (..., 2)."""
    start, end = spans.unbind(-1)
    return torch.stack((0.5 * (start + end), end - start), dim=-1)


def _intersection_union_hull(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    intersection = (torch.minimum(a[..., 1], b[..., 1]) - torch.maximum(a[..., 0], b[..., 0])).clamp(min=0)
    union = (a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - intersection
    hull = torch.maximum(a[..., 1], b[..., 1]) - torch.minimum(a[..., 0], b[..., 0])
    return intersection, union, hull


def _safe_ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    # The gradient has the denominator below it, so that it has to be more than just positive.
    positive = denominator > SHORTEST
    return torch.where(positive, numerator / torch.where(positive, denominator, 1.0), 0.0)


def span_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of spans (..., 2) in `xx` form, broadcast over the leading dimensions; 0 where the union is empty."""
    intersection, union, _ = _intersection_union_hull(a, b)
    return _safe_ratio(intersection, union)


def span_giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU of spans (..., 2) in `xx` form, broadcast over the leading dimensions.

    Two empty spans at the same place have generalised IoU 0, so the result is always finite.
    """
    intersection, union, hull = _intersection_union_hull(a, b)
    return _safe_ratio(intersection, union) - _safe_ratio(hull - union, hull)
