# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The IoU-positive contrastive loss of SS-MESM in plain PyTorch."""

from typing import Literal

import torch
from torch import Tensor


def positive_pairs(rows: Tensor, columns: Tensor, gamma: float, iou: Literal["iou", "giou"]) -> Tensor:
    """Which moments overlap enough to be positives of each other.

    The comparisons are multiplied out: a division would round pairs that lie exactly on `gamma` to either side.

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
    if iou == "iou":
        return (intersection > gamma * union) & (union > 0)
    hull = torch.maximum(end_a, end_b) - torch.minimum(start_a, start_b)
    return (intersection * hull - (hull - union) * union >= gamma * union * hull) & (union > 0)


def iou_positive_contrastive_loss(
    text: Tensor,
    segment: Tensor,
    moments: Tensor,
    group: Tensor | None = None,
    *,
    gamma: float = 0.9,
    tau: float | Tensor = 0.5,
    iou: Literal["iou", "giou"] = "iou",
    form: Literal["log_sum", "mean_log"] = "log_sum",
    anchor: Literal["text", "segment"] = "text",
    eps: float = 0.0,
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> Tensor:
    """Draws each text to the segments whose moments overlap its own (Eq. 5 of MESM).

    Args:
        text: (N, D) sentence features.
        segment: (N, D) segment features.
        moments: (N, 2) start and end, seconds or normalised.
        group: (N,) int64; positives lie within a group. None = the whole batch is one group.
        gamma: IoU above which two moments are positives of each other.
        tau: Temperature, a number or a tensor with a gradient.
        iou: "iou" = IoU > gamma (Eq. 5), "giou" = generalised IoU >= gamma (released code).
        form: "log_sum" = -log(sum over positives / sum over all) (Eq. 5), "mean_log" = mean over the positives of
            -log softmax (released code).
        anchor: "text" compares each text to all segments (Eq. 5), "segment" each segment to all texts (released code).
        eps: Added inside the logarithm of the sum over all, after the maximum is subtracted, and to the count of
            positives (the released code's 1e-6).
        reduction: "mean" and "sum" over the rows, or "none".

    Returns:
        The loss, a float32 (float64 for float64 inputs) scalar, or (N,) with `reduction="none"`. Rows without positives
        count as 0.

    Raises:
        ValueError: An option has an unknown value, or gamma or tau is out of range.
    """
    for name, value, allowed in (
        ("iou", iou, ("iou", "giou")),
        ("form", form, ("log_sum", "mean_log")),
        ("anchor", anchor, ("text", "segment")),
        ("reduction", reduction, ("mean", "sum", "none")),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
    if gamma < 0:
        raise ValueError(f"gamma must not be negative, got {gamma}")
    if not isinstance(tau, Tensor) and tau <= 0:
        raise ValueError(f"tau must be positive, got {tau}")

    dtype = torch.float64 if text.dtype == torch.float64 else torch.float32
    rows, columns = (text, segment) if anchor == "text" else (segment, text)
    logits = (rows.to(dtype) @ columns.to(dtype).T) / tau
    positive = positive_pairs(moments, moments, gamma, iou)
    if group is not None:
        positive = positive & (group[:, None] == group[None])

    shifted = logits - logits.detach().amax(dim=1, keepdim=True)
    log_all = (shifted.exp().sum(dim=1) + eps).log()
    has_positive = positive.any(dim=1)
    if form == "log_sum":
        # Where a row has no positive, any finite stand-in will do: the row is dropped below.
        log_positive = shifted.masked_fill(~positive & has_positive[:, None], -torch.inf).logsumexp(dim=1)
        loss = log_all - log_positive
    else:
        count = positive.sum(dim=1).to(dtype) + eps
        log_probability = shifted - log_all[:, None]
        mean = torch.where(positive, log_probability, 0.0).sum(dim=1) / torch.where(has_positive, count, 1.0)
        loss = -mean
    loss = torch.where(has_positive, loss, 0.0)
    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" else loss.sum()
