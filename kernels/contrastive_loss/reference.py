# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The IoU-positive contrastive loss in plain PyTorch: any dtype, differentiable, the truth for the Triton kernels."""

from typing import Literal

import torch
from torch import Tensor

Iou = Literal["iou", "giou"]
Form = Literal["log_sum", "mean_log"]
Reduction = Literal["mean", "sum", "none"]


def positive_threshold(gamma: float, iou: str) -> float:
    """The threshold that stands for `gamma` where overlaps are compared in float32.

    It is moved by 2^-22 of itself, more than the comparison rounds, so that moments that lie exactly on gamma are never
    positives with "iou" (>) and always with "giou" (>=).
    """
    return gamma * (1 + 2.0**-22) if iou == "iou" else gamma * (1 - 2.0**-22)


def positive_pairs(rows: Tensor, columns: Tensor, gamma: float, iou: Iou) -> Tensor:
    """Which moments overlap enough to be positives of each other.

    The comparisons are multiplied out, which saves the divisions and asks nothing of empty moments. In float32 they are
    exact for whole numbers up to 4096.

    Args:
        rows: (N, 2) start and end.
        columns: (M, 2) start and end, in the same unit.
        gamma: Threshold.
        iou: "iou" = IoU > gamma (Eq. 5), "giou" = generalised IoU >= gamma (released code).

    Returns:
        (N, M) bool; False where both moments are empty.
    """
    (start_a, end_a), (start_b, end_b) = rows[:, None].unbind(-1), columns[None].unbind(-1)
    intersection = (torch.minimum(end_a, end_b) - torch.maximum(start_a, start_b)).clamp(min=0)
    union = (end_a - start_a) + (end_b - start_b) - intersection
    threshold = positive_threshold(gamma, iou)
    if iou == "iou":
        return (intersection > threshold * union) & (union > 0)
    hull = torch.maximum(end_a, end_b) - torch.minimum(start_a, start_b)
    return (intersection * hull - (hull - union) * union >= threshold * union * hull) & (union > 0)


def contrast(
    rows: Tensor,
    columns: Tensor,
    row_moments: Tensor,
    column_moments: Tensor,
    row_group: Tensor | None,
    column_group: Tensor | None,
    tau: Tensor,
    gamma: float,
    eps: float,
    iou: Iou,
    form: Form,
    reduction: Reduction,
) -> Tensor:
    """The loss of Eq. 5 of MESM and its variants; see `iou_positive_contrastive_loss`.

    Args:
        rows: (N, D) features of the anchors.
        columns: (M, D) features that they are contrasted with.
        row_moments, column_moments: (N, 2) and (M, 2) start and end, in the dtype of the loss.
        row_group, column_group: (N,) and (M,) int64, or None where all are in one group.
        tau: () in the dtype of the loss.
        gamma, eps, iou, form, reduction: See `iou_positive_contrastive_loss`.

    Returns:
        (), or (N,) with `reduction="none"`, in the dtype of `tau`.
    """
    if rows.shape[0] == 0 or columns.shape[0] == 0:
        # Sums of nothing: zeros with zero gradients.
        return _reduce((rows[:, :0].sum(dim=1) + columns[:0].sum()).to(tau.dtype) / tau, reduction)
    logits = (rows.to(tau.dtype) @ columns.to(tau.dtype).T) / tau
    positive = positive_pairs(row_moments, column_moments, gamma, iou)
    if row_group is not None and column_group is not None:
        positive = positive & (row_group[:, None] == column_group[None])

    shifted = logits - logits.detach().amax(dim=1, keepdim=True)
    log_all = (shifted.exp().sum(dim=1) + eps).log()
    has_positive = positive.any(dim=1)
    if form == "log_sum":
        # Where a row has no positive, any finite stand-in will do: the row is dropped below.
        log_positive = shifted.masked_fill(~positive & has_positive[:, None], -torch.inf).logsumexp(dim=1)
        loss = log_all - log_positive
    else:
        count = positive.sum(dim=1).to(tau.dtype) + eps
        log_probability = shifted - log_all[:, None]
        mean = torch.where(positive, log_probability, 0.0).sum(dim=1) / torch.where(has_positive, count, 1.0)
        loss = -mean
    return _reduce(torch.where(has_positive, loss, 0.0), reduction)


def _reduce(loss: Tensor, reduction: Reduction) -> Tensor:
    if reduction == "none":
        return loss
    return loss.sum() / max(loss.shape[0], 1) if reduction == "mean" else loss.sum()
