# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from mesm_plugin.models import MomentMatcher
from mesm_plugin.models.matcher import assign_by_scipy, assign_by_subsets, assign_many


def cost_of(cost: torch.Tensor, assignment: torch.Tensor) -> torch.Tensor:
    return cost.gather(1, assignment[:, None]).sum(dim=(1, 2))


@pytest.mark.parametrize("moments", [1, 2, 3, 5])
@pytest.mark.parametrize("spans", [5, 10])
def test_subsets_are_as_cheap_as_scipy(moments: int, spans: int) -> None:
    torch.manual_seed(moments * spans)
    cost = torch.randn(60, spans, moments, dtype=torch.float64)
    assignment = assign_by_subsets(cost)
    for chosen in assignment.tolist():
        assert len(set(chosen)) == moments
    expected = [costs[linear_sum_assignment(costs)].sum() for costs in cost.numpy()]
    torch.testing.assert_close(cost_of(cost, assignment), torch.tensor(expected))
    by_scipy, matched = assign_by_scipy(cost, torch.ones(60, moments, dtype=torch.bool))
    assert matched.all()
    assert torch.equal(by_scipy, assignment)


def test_padding_does_not_disturb_the_moments() -> None:
    torch.manual_seed(0)
    spans, logits = torch.rand(40, 10, 2), torch.randn(40, 10, 2)
    moments = torch.rand(40, 5, 2).sort(dim=-1).values
    count = torch.arange(40) % 5 + 1
    mask = torch.arange(5) < count[:, None]
    assignment, matched = MomentMatcher()(logits, spans, moments, mask)
    assert torch.equal(matched, mask)
    for i in range(40):
        n = int(count[i])
        alone, _ = MomentMatcher()(logits[i : i + 1], spans[i : i + 1], moments[i : i + 1, :n], mask[i : i + 1, :n])
        assert torch.equal(assignment[i, :n], alone[0])


def test_costs_are_weighted() -> None:
    moments = torch.tensor([[[0.2, 0.4]]])
    mask = torch.ones(1, 1, dtype=torch.bool)
    spans = torch.tensor([[[0.3, 0.2], [0.5, 0.4]]])
    logits = torch.tensor([[[-4.0, 0.0], [4.0, 0.0]]])
    assert MomentMatcher(cost_class=0)(logits, spans, moments, mask)[0].item() == 0
    assert MomentMatcher(cost_class=100)(logits, spans, moments, mask)[0].item() == 1


@pytest.mark.parametrize(("spans", "moments"), [(3, 5), (12, 9)])
def test_more_moments_than_the_device_takes(spans: int, moments: int) -> None:
    torch.manual_seed(1)
    true_moments = torch.rand(4, moments, 2).sort(dim=-1).values
    mask = torch.ones(4, moments, dtype=torch.bool)
    mask[0, 2:] = False
    predicted = torch.rand(4, spans, 2)
    assignment, matched = MomentMatcher()(torch.randn(4, spans, 2), predicted, true_moments, mask)
    assert matched.sum(dim=1).tolist() == [2, *[min(spans, moments)] * 3]
    assert not (matched & ~mask).any()
    for chosen, valid in zip(assignment, matched, strict=True):
        assert len(set(chosen[valid].tolist())) == int(valid.sum())


@pytest.mark.parametrize(("spans", "moments"), [(3, 5), (6, 6), (8, 3), (5, 20)])
def test_many_moments_are_assigned_on_the_device_as_by_scipy(spans: int, moments: int) -> None:
    torch.manual_seed(spans)
    cost = torch.randn(40, spans, moments, dtype=torch.float64)
    mask = torch.rand(40, moments) < torch.linspace(0, 1, 40)[:, None]
    expected, expected_matched = assign_by_scipy(cost, mask)
    assignment, matched = assign_many(cost, mask)
    assert torch.equal(matched, expected_matched)
    assert torch.equal(assignment[matched], expected[matched])
    assert matched.sum(dim=1).tolist() == mask.sum(dim=1).clamp(max=spans).tolist()


def test_many_moments_on_an_accelerator_stay_there() -> None:
    shapes = {"logits": (2, 10, 2), "spans": (2, 10, 2), "moments": (2, 30, 2)}
    inputs = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    assignment, _ = MomentMatcher()(**inputs, mask=torch.empty(2, 30, dtype=torch.bool, device="meta"))
    assert assignment.shape == (2, 30)
