# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Arithmetic on spans: a span is a moment divided by the duration, `xx` = (start, end) or `cxw` = (centre, width).

Whole numbers, seconds for instance, become PyTorch's default dtype. Half precision, which neither holds the sum of two
large bounds nor `SHORTEST`, is computed in float32; results are of the dtype of the spans.
"""

import torch
from torch import Tensor

SHORTEST = 1e-12
"""What is not longer than this counts as empty."""


def cxw_to_xx(spans: Tensor) -> Tensor:
    """Turns (centre, width) into (start, end); `spans` is (..., 2)."""
    spans, dtype = _computable(spans)
    centre, width = spans.unbind(-1)
    ends = torch.stack((torch.sub(centre, width, alpha=0.5), torch.add(centre, width, alpha=0.5)), dim=-1)
    return ends.to(dtype)


def xx_to_cxw(spans: Tensor) -> Tensor:
    """Turns (start, end) into (centre, width); `spans` is (..., 2)."""
    spans, dtype = _computable(spans)
    start, end = spans.unbind(-1)
    return torch.stack((spans.mean(dim=-1), end - start), dim=-1).to(dtype)


def _computable(spans: Tensor) -> tuple[Tensor, torch.dtype]:
    """Spans in a dtype to compute in, and the dtype of the result."""
    dtype = spans.dtype if spans.is_floating_point() else torch.get_default_dtype()
    return spans.to(torch.float32 if dtype.itemsize < 4 else dtype), dtype


def _widths_and_distances(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, torch.dtype]:
    """Sums of the two widths, and of the distances between the starts and between the ends; the dtype of the result.

    Widths minus distances is twice the intersection, where there is one, or else minus twice the gap; widths plus
    distances is twice the hull.
    """
    (a, a_dtype), (b, b_dtype) = _computable(a), _computable(b)
    distances = (a - b).abs().sum(dim=-1)
    start, end = (a + b).unbind(-1)
    return end - start, distances, torch.promote_types(a_dtype, b_dtype)


def _safe_ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    # The gradient has the denominator below it, so that it has to be more than just positive.
    return numerator.masked_fill(denominator <= SHORTEST, 0.0) / denominator.clamp(min=SHORTEST)


def span_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of spans (..., 2) in `xx` form, broadcast over the leading dimensions; 0 where the union is empty."""
    widths, distances, dtype = _widths_and_distances(a, b)
    twice_intersection = (widths - distances).clamp(min=0)
    return _safe_ratio(twice_intersection, 2 * widths - twice_intersection).to(dtype)


def span_giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU of spans (..., 2) in `xx` form, broadcast over the leading dimensions.

    On a line that is the intersection, or else minus the gap, divided by the hull. Two empty spans at the same place
    have generalised IoU 0, so the result is always finite.
    """
    widths, distances, dtype = _widths_and_distances(a, b)
    return _safe_ratio(widths - distances, widths + distances).to(dtype)
