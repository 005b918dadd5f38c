# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mesm_plugin.structures import cxw_to_xx, span_giou, span_iou, xx_to_cxw

ENDS = st.tuples(st.floats(-10, 10, width=32), st.floats(-10, 10, width=32)).map(sorted)


def test_forms() -> None:
    spans = torch.tensor([[0.2, 0.4], [0.0, 1.0]])
    torch.testing.assert_close(xx_to_cxw(spans), torch.tensor([[0.3, 0.2], [0.5, 1.0]]))
    torch.testing.assert_close(cxw_to_xx(xx_to_cxw(spans)), spans)


@pytest.mark.parametrize(
    ("a", "b", "iou", "giou"),
    [
        ((0, 2), (1, 3), 1 / 3, 1 / 3),
        ((0, 1), (3, 4), 0.0, -0.5),
        ((0, 1), (0, 1), 1.0, 1.0),
        ((0, 4), (1, 2), 0.25, 0.25),
        ((1, 1), (1, 1), 0.0, 0.0),
        ((1, 1), (0, 2), 0.0, 0.0),
        ((0, 0), (2, 2), 0.0, -1.0),
    ],
)
def test_overlap(a: tuple[float, float], b: tuple[float, float], iou: float, giou: float) -> None:
    a_span, b_span = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    assert span_iou(a_span, b_span).item() == pytest.approx(iou)
    assert span_giou(a_span, b_span).item() == pytest.approx(giou)


@given(ENDS, ENDS)
def test_overlap_is_symmetric_and_bounded(a: list[float], b: list[float]) -> None:
    a_span, b_span = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    for overlap, lowest in ((span_iou, 0.0), (span_giou, -1.0)):
        value = overlap(a_span, b_span).item()
        assert lowest - 1e-9 <= value <= 1 + 1e-9
        assert value == overlap(b_span, a_span).item()


def test_gradients_of_empty_spans_are_finite() -> None:
    spans = torch.zeros(3, 2, requires_grad=True)
    span_giou(spans, torch.zeros(3, 2)).sum().backward()
    assert spans.grad is not None
    assert spans.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_whole_numbers(dtype: torch.dtype) -> None:
    seconds = torch.tensor([[2, 5], [4, 6]], dtype=dtype)
    assert xx_to_cxw(seconds).tolist() == [[3.5, 3.0], [5.0, 2.0]]
    assert cxw_to_xx(torch.tensor([[4, 3]], dtype=dtype)).tolist() == [[2.5, 5.5]]
    assert span_iou(*seconds).item() == pytest.approx(0.25)
    assert span_giou(seconds[1], torch.tensor([0, 1], dtype=dtype)).item() == pytest.approx(-0.5)
    # uint8 has no numbers below 0.
    assert cxw_to_xx(torch.tensor([0, 2], dtype=dtype)).tolist() == [-1.0, 1.0]
    for result in (xx_to_cxw(seconds), cxw_to_xx(seconds), span_iou(*seconds), span_giou(*seconds)):
        assert result.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    # Their sum is beyond float16, a difference of 1e-12 below it.
    long = torch.tensor([32768.0, 49152.0], dtype=dtype)
    assert xx_to_cxw(long).tolist() == [40960.0, 16384.0]
    assert cxw_to_xx(xx_to_cxw(long)).tolist() == long.tolist()
    shifted = torch.tensor([40960.0, 57344.0], dtype=dtype)
    empty = torch.ones(2, dtype=dtype)
    for overlap in (span_iou, span_giou):
        assert overlap(long, shifted).item() == pytest.approx(1 / 3, rel=4e-3)
        assert overlap(empty, empty).item() == 0.0
        assert overlap(long, shifted).dtype == dtype
        assert overlap(long, shifted.double()).dtype == torch.float64


def test_gradients_in_half_precision_are_finite() -> None:
    spans = torch.zeros(3, 2, dtype=torch.float16, requires_grad=True)
    span_giou(spans, torch.tensor([[0.0, 0.0], [0.25, 0.5], [0.0, 1.0]], dtype=torch.float16)).sum().backward()
    assert spans.grad is not None
    assert spans.grad.isfinite().all()
