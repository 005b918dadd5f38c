# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The matcher on adversarial numbers."""

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mesm_plugin.models import MomentMatcher
from mesm_plugin.models.matcher import assign_by_scipy, assign_by_subsets, assign_many
from mesm_plugin.structures import cxw_to_xx, span_giou, xx_to_cxw

COSTS = st.one_of(st.floats(-20, 20, width=32), st.sampled_from([0.0, -0.0, 1.0, 1e-30, -1e-30, 1e6, -1e6, 1 + 2**-20]))
# Ends of moments and spans: ties, empty and reversed ones, far outside of the video.
ENDS = st.sampled_from([0.0, -0.0, 1e-45, 1e-8, 0.1, 0.3, 0.30000001, 0.5, 1.0, 1.0000001, -1.0, 7.0, 1e6])


@st.composite
def costs(draw: st.DrawFn, max_rows: int = 5, max_columns: int = 4) -> Tensor:
    """(1, N, M) costs, exact in float64."""
    rows, columns = draw(st.integers(1, max_rows)), draw(st.integers(1, max_columns))
    values = draw(st.lists(COSTS, min_size=rows * columns, max_size=rows * columns))
    return torch.tensor(values, dtype=torch.float64).reshape(1, rows, columns)


def least(cost: Tensor) -> float:
    """The least total cost of giving every column of (R, C) a row of its own, or every row a column."""
    table = cost.tolist() if cost.shape[0] >= cost.shape[1] else cost.T.tolist()
    columns = len(table[0])
    ways = permutations(range(len(table)), columns)
    return min(sum(table[row][column] for column, row in enumerate(rows)) for rows in ways)


@given(costs())
def test_every_way_is_as_cheap_as_trying_all(cost: Tensor) -> None:
    mask = torch.ones(1, cost.shape[2], dtype=torch.bool)
    ways = [assign_many(cost, mask), assign_by_scipy(cost, mask)]
    if cost.shape[1] >= cost.shape[2]:
        ways.append((assign_by_subsets(cost), mask))
    for assignment, matched in ways:
        spans = assignment[matched].tolist()
        assert len(set(spans)) == len(spans) == min(cost.shape[1:])
        total = sum(
            cost[0, span, moment].item() for span, moment in zip(spans, matched[0].nonzero()[:, 0], strict=True)
        )
        assert total == pytest.approx(least(cost[0]), rel=1e-9, abs=1e-9)


@st.composite
def predictions(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (1, N, 2), spans (1, N, 2) and moments (1, M, 2) of adversarial numbers."""
    num_spans, num_moments = draw(st.integers(1, 4)), draw(st.integers(1, 3))

    def rows(count: int, values: st.SearchStrategy[float]) -> Tensor:
        return torch.tensor(draw(st.lists(st.tuples(values, values), min_size=count, max_size=count)))[None].float()

    logits = rows(num_spans, st.sampled_from([0.0, 1.0, -1e4, 1e4, 1e30, -1e30]))
    return logits, rows(num_spans, ENDS), rows(num_moments, ENDS).sort(dim=-1).values


@given(predictions())
def test_matching_is_optimal_for_its_own_costs(case: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, spans, moments = case
    mask = torch.ones(moments.shape[:2], dtype=torch.bool)
    assignment, matched = MomentMatcher()(logits, spans, moments, mask)
    distance = (spans[0, :, None] - xx_to_cxw(moments)[0, None]).abs().sum(dim=-1)
    giou = span_giou(cxw_to_xx(spans[0])[:, None], moments[0, None])
    cost = (10 * distance - giou - 4 * logits[0].softmax(dim=-1)[:, :1]).double()
    chosen = matched[0].nonzero()[:, 0]
    total = sum(cost[assignment[0, moment], moment].item() for moment in chosen)
    assert len(set(assignment[matched].tolist())) == len(chosen) == min(cost.shape)
    assert total == pytest.approx(least(cost), rel=1e-5, abs=1e-4)


@given(predictions(), st.sampled_from([float("nan"), float("inf"), -float("inf")]), st.integers(0, 2), st.booleans())
@settings(max_examples=60)
def test_what_is_not_finite_still_gets_valid_indices(
    case: tuple[Tensor, Tensor, Tensor], value: float, where: int, everywhere: bool
) -> None:
    """So that the loss is computed, found not to be finite, and the step left out."""
    case[where][..., slice(None) if everywhere else 0] = value
    logits, spans, moments = case
    mask = torch.ones(moments.shape[:2], dtype=torch.bool)
    assignment, matched = MomentMatcher()(logits, spans, moments, mask)
    chosen = assignment[matched].tolist()
    assert all(0 <= span < spans.shape[1] for span in assignment.flatten().tolist())
    assert len(set(chosen)) == len(chosen) == min(spans.shape[1], moments.shape[1])


@given(predictions(), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_order_of_moments_and_padding_change_nothing(case: tuple[Tensor, Tensor, Tensor], random: object) -> None:
    logits, spans, moments = case
    count = moments.shape[1]
    if count > spans.shape[1]:
        return
    order = torch.tensor(sorted(range(count), key=lambda _: random.random()))  # type: ignore[attr-defined]
    padded = torch.cat((moments[:, order], torch.full((1, 2, 2), 0.4)), dim=1)
    mask = torch.arange(count + 2)[None] < count
    matcher = MomentMatcher()
    one, _ = matcher(logits, spans, moments, mask[:, :count])
    width = max(count, spans.shape[1])
    other, matched = matcher(logits, spans, padded[:, :width], mask[:, :width])
    distance = (spans[0, :, None] - xx_to_cxw(moments)[0, None]).abs().sum(dim=-1)
    giou = span_giou(cxw_to_xx(spans[0])[:, None], moments[0, None])
    cost = (10 * distance - giou - 4 * logits[0].softmax(dim=-1)[:, :1]).double()
    assert int(matched.sum()) == count
    # Among ties another span may be taken.
    first = cost[one[0], torch.arange(count)].sum().item()
    second = cost[other[0, :count], order].sum().item()
    assert first == pytest.approx(second, rel=1e-5, abs=1e-4)
