# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Exact one-to-one matching of moments to object queries, on the device."""

import torch
from torch import Tensor, nn

from mesm_plugin.models.heads.moment_head import FOREGROUND
from mesm_plugin.registry import MODELS
from mesm_plugin.structures import cxw_to_xx, span_giou, xx_to_cxw

MAX_SUBSET_MOMENTS = 8
"""The dynamic programme keeps 2 ** M numbers a query; beyond this, SciPy is quicker."""


def assign_by_subsets(cost: Tensor) -> Tensor:
    """Assigns each moment an object query of its own at the least total cost, without leaving the device.

    A dynamic programme over the object queries: after each, the best cost of every subset of moments is known. It
    takes N * M batched steps over 2 ** M subsets.

    Args:
        cost: (Q, N, M) finite costs, M <= N.

    Returns:
        (Q, M) int64 object query of each moment.
    """
    queries, num_spans, num_moments = cost.shape
    if num_moments == 1:
        return cost[:, :, 0].argmin(dim=1, keepdim=True)
    subsets = torch.arange(2**num_moments, device=cost.device)
    best = torch.where(subsets == 0, 0.0, torch.inf).to(cost.dtype).expand(queries, -1)
    choices = []
    for n in range(num_spans):
        # Option 0: object query n stays free. Option 1 + m: it takes moment m, which the subset then contains.
        options = [best]
        for m in range(num_moments):
            contains = (subsets >> m) & 1 == 1
            without = best.index_select(1, subsets & ~(1 << m))
            options.append(torch.where(contains, without + cost[:, n, m, None], torch.inf))
        best, choice = torch.stack(options).min(dim=0)
        choices.append(choice)
    assignment = cost.new_zeros((queries, num_moments), dtype=torch.int64)
    moments = torch.arange(num_moments, device=cost.device)
    subset = torch.full((queries, 1), 2**num_moments - 1, device=cost.device)
    for n in range(num_spans - 1, -1, -1):
        taken = choices[n].gather(1, subset) - 1
        assignment = torch.where(taken == moments, n, assignment)
        subset = torch.where(taken >= 0, subset & ~(1 << taken.clamp(min=0)), subset)
    return assignment


def assign_by_scipy(cost: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Assigns moments to object queries on the host, for numbers that `assign_by_subsets` is not made for.

    Args:
        cost: (Q, N, M).
        mask: (Q, M) bool, True = a moment, False = padding.

    Returns:
        (Q, M) int64 object query of each moment, and (Q, M) bool, True where a moment got one: with more moments than
        object queries the most expensive ones go without.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, rarely needed

    assignment = torch.zeros(mask.shape, dtype=torch.int64)
    matched = torch.zeros(mask.shape, dtype=torch.bool)
    for i, (costs, valid) in enumerate(zip(cost.detach().cpu(), mask.cpu(), strict=True)):
        moments = valid.nonzero()[:, 0]
        spans, chosen = linear_sum_assignment(costs[:, moments].numpy())
        assignment[i, moments[chosen]] = torch.from_numpy(spans)
        matched[i, moments[chosen]] = True
    return assignment.to(cost.device), matched.to(cost.device)


@MODELS.register_module()
class MomentMatcher(nn.Module):
    """Finds the cheapest one-to-one assignment of moments to object queries (as in DETR).

    Args:
        cost_span: Weight of the L1 distance of centre and width.
        cost_giou: Weight of the negative generalised IoU.
        cost_class: Weight of the negative foreground probability.
    """

    def __init__(self, cost_span: float = 10.0, cost_giou: float = 1.0, cost_class: float = 4.0) -> None:
        super().__init__()
        self.cost_span = cost_span
        self.cost_giou = cost_giou
        self.cost_class = cost_class

    @torch.no_grad()
    def forward(self, logits: Tensor, spans: Tensor, moments: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Matches moments to object queries.

        Args:
            logits: (Q, N, 2), foreground first.
            spans: (Q, N, 2) predicted normalised centre and width.
            moments: (Q, M, 2) true normalised start and end.
            mask: (Q, M) bool, True = a moment, False = padding.

        Returns:
            (Q, M) int64 object query of each moment, and (Q, M) bool, True where a moment got one.
        """
        logits, spans, moments = logits.float(), spans.float(), moments.float()
        probability = logits.softmax(dim=-1)[..., FOREGROUND]
        distance = (spans[:, :, None] - xx_to_cxw(moments)[:, None]).abs().sum(dim=-1)
        giou = span_giou(cxw_to_xx(spans)[:, :, None], moments[:, None])
        cost = self.cost_span * distance - self.cost_giou * giou - self.cost_class * probability[..., None]
        num_spans, num_moments = cost.shape[1:]
        if num_moments > min(num_spans, MAX_SUBSET_MOMENTS):
            return assign_by_scipy(cost, mask)
        # Padding costs nothing wherever it goes, so it does not disturb the moments.
        return assign_by_subsets(cost.masked_fill(~mask[:, None], 0.0)), mask
