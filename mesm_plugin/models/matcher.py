# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Exact one-to-one matching of moments to object queries, on the device."""

import torch
from torch import Tensor, nn

from mesm_plugin.models.heads.moment_head import FOREGROUND
from mesm_plugin.registry import MODELS
from mesm_plugin.structures import cxw_to_xx, span_giou, xx_to_cxw

MAX_SUBSET_MOMENTS = 8
"""The dynamic programme keeps 2 ** M numbers a query; beyond this, another one does it, or SciPy."""
MAX_SUBSET_SPANS = 12
"""The other one keeps 2 ** N numbers, and takes longer than SciPy on a CPU."""
NOT_FINITE = 1e9
"""Stands in for a cost that is not finite."""


def assign_by_subsets(cost: Tensor, size: Tensor | None = None) -> Tensor:
    """Assigns columns rows of their own at the least total cost, without leaving the device.

    A dynamic programme over the rows: after each, the best cost of every subset of columns is known. It takes R batched
    steps over 2 ** C subsets.

    Args:
        cost: (Q, R, C); infinite = never.
        size: (Q,) how many columns get a row, those that it is cheapest for; None = all, C <= R.

    Returns:
        (Q, C) int64 row of each column, -1 for a column without.
    """
    queries, num_rows, num_columns = cost.shape
    if num_columns == 1 and size is None:
        return cost[:, :, 0].argmin(dim=1, keepdim=True)
    subsets = torch.arange(2**num_columns, device=cost.device)
    bits = 1 << torch.arange(num_columns, device=cost.device)[:, None]
    lacks = subsets & bits == 0
    without = (subsets & ~bits).flatten()
    costs = cost.permute(1, 2, 0)
    # Queries come last, so that picking subsets copies whole rows.
    best = torch.where(subsets == 0, 0.0, torch.inf).to(cost.dtype)[:, None].expand(-1, queries)
    choices = []
    for row in range(num_rows):
        # A row goes to one of the columns that the subset contains, or (choice C) to none.
        given = best.index_select(0, without).unflatten(0, lacks.shape) + costs[row, :, None]
        options = torch.cat((given.masked_fill(lacks[..., None], torch.inf), best[None]))
        best, choice = options.min(dim=0)
        choices.append(choice)
    if size is None:
        subset = torch.full((1, queries), 2**num_columns - 1, device=cost.device)
    else:
        other_size = (~lacks).sum(dim=0)[:, None] != size
        subset = best.masked_fill(other_size, torch.inf).argmin(dim=0, keepdim=True)
    columns = torch.arange(num_columns, device=cost.device)[:, None]
    assignment = torch.full((num_columns, queries), -1, device=cost.device)
    for row in range(num_rows - 1, -1, -1):
        chosen = choices[row].gather(0, subset) == columns
        assignment = assignment.masked_fill(chosen, row)
        subset = subset - bits.masked_fill(~chosen, 0).sum(dim=0, keepdim=True)
    return assignment.T


def assign_many(cost: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Assigns more moments than there are object queries, or many, without leaving the device.

    Args:
        cost: (Q, N, M).
        mask: (Q, M) bool, True = a moment, False = padding.

    Returns:
        As `assign_by_scipy`.
    """
    moments = torch.arange(cost.shape[2], device=cost.device)
    by_moment = cost.transpose(1, 2).masked_fill(~mask[..., None], torch.inf)
    moment_of_span = assign_by_subsets(by_moment, mask.sum(dim=1).clamp(max=cost.shape[1]))
    taken = moment_of_span[:, None] == moments[:, None]
    return taken.int().argmax(dim=2), taken.any(dim=2)


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
        # Of a model that diverged: its loss is not finite whatever is matched, and tells so.
        cost = cost.nan_to_num(nan=NOT_FINITE, posinf=NOT_FINITE, neginf=-NOT_FINITE)
        num_spans, num_moments = cost.shape[1:]
        if num_moments > min(num_spans, MAX_SUBSET_MOMENTS):
            # SciPy is the faster one on a CPU, but no part of a graph.
            on_device = num_spans <= MAX_SUBSET_SPANS and (torch.compiler.is_compiling() or not cost.is_cpu)
            return assign_many(cost, mask) if on_device else assign_by_scipy(cost, mask)
        # Padding costs nothing wherever it goes, so it does not disturb the moments.
        return assign_by_subsets(cost.masked_fill(~mask[:, None], 0.0)), mask
