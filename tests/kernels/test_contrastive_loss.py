# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import math
from typing import Any

import pytest
import torch

from mesm_plugin.kernels import iou_positive_contrastive_loss
from mesm_plugin.kernels.contrastive_loss import positive_pairs


def brute_force(
    text: torch.Tensor,
    segment: torch.Tensor,
    moments: torch.Tensor,
    group: torch.Tensor | None,
    *,
    gamma: float,
    tau: float,
    iou: str,
    form: str,
    anchor: str,
    eps: float,
) -> list[float]:
    """Eq. 5 and its variants, one row and one column at a time."""
    rows = []
    for i in range(len(text)):
        logits, positives = [], []
        for j in range(len(text)):
            pair = (text[i], segment[j]) if anchor == "text" else (text[j], segment[i])
            logits.append(float(pair[0] @ pair[1]) / tau)
            (s, e), (t, f) = moments[i].tolist(), moments[j].tolist()
            inter = max(0, min(e, f) - max(s, t))
            union = (e - s) + (f - t) - inter
            hull = max(e, f) - min(s, t)
            overlap = inter / union if iou == "iou" else inter / union - (hull - union) / hull
            near = overlap > gamma if iou == "iou" else overlap >= gamma
            positives.append(near and (group is None or group[i] == group[j]))
        top = max(logits)
        everything = math.log(sum(math.exp(x - top) for x in logits) + eps)
        chosen = [x - top for x, positive in zip(logits, positives, strict=True) if positive]
        if not chosen:
            rows.append(0.0)
        elif form == "log_sum":
            rows.append(everything - math.log(sum(math.exp(x) for x in chosen)))
        else:
            rows.append(sum(everything - x for x in chosen) / (len(chosen) + eps))
    return rows


def random_case(count: int = 9) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(count)
    text, segment = (torch.randn(count, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    start = torch.randint(0, 12, (count,), generator=generator)
    moments = torch.stack((start, start + torch.randint(1, 9, (count,), generator=generator)), dim=1).double()
    return text, segment, moments, torch.randint(0, 3, (count,), generator=generator)


@pytest.mark.parametrize("iou", ["iou", "giou"])
@pytest.mark.parametrize("form", ["log_sum", "mean_log"])
@pytest.mark.parametrize("anchor", ["text", "segment"])
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("eps", [0.0, 1e-2])
def test_equals_a_loop(iou: Any, form: Any, anchor: Any, grouped: bool, eps: float) -> None:
    text, segment, moments, group = random_case()
    options: dict[str, Any] = {"gamma": 0.5, "tau": 0.3, "iou": iou, "form": form, "anchor": anchor, "eps": eps}
    chosen = group if grouped else None
    expected = torch.tensor(brute_force(text, segment, moments, chosen, **options), dtype=torch.float64)
    for reduction, value in (("none", expected), ("mean", expected.mean()), ("sum", expected.sum())):
        ours = iou_positive_contrastive_loss(text, segment, moments, chosen, **options, reduction=reduction)
        torch.testing.assert_close(ours, value)


def test_boundary_pairs_are_exact() -> None:
    # Integer moments whose IoU is exactly one half.
    moments = torch.tensor([[0.0, 2.0], [0.0, 1.0], [1.0, 3.0], [0.0, 4.0]])
    half = positive_pairs(moments, moments, 0.5, "iou")
    assert half.tolist() == [[i == j for j in range(4)] for i in range(4)]
    at_least_half = positive_pairs(moments, moments, 0.5, "giou")
    assert at_least_half[0].tolist() == [True, True, False, True]


@pytest.mark.parametrize("iou", ["iou", "giou"])
def test_rows_without_positives_count_as_zero(iou: Any) -> None:
    text, segment, moments, _ = random_case(4)
    moments[1] = 3.0  # a moment of length zero overlaps nothing, itself included
    text.requires_grad_()
    for form in ("log_sum", "mean_log"):
        rows = iou_positive_contrastive_loss(text, segment, moments, gamma=0.9, iou=iou, form=form, reduction="none")
        assert rows[1] == 0
        gradient = torch.autograd.grad(rows.sum(), text)[0]
        assert gradient.isfinite().all()
        assert (gradient[1] == 0).all()


def test_gradcheck_and_learned_temperature() -> None:
    text, segment, moments, group = random_case(5)
    tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    inputs = (text.requires_grad_(), segment.requires_grad_(), tau)
    for form in ("log_sum", "mean_log"):
        assert torch.autograd.gradcheck(
            lambda a, b, t, form=form: iou_positive_contrastive_loss(a, b, moments, group, gamma=0.4, tau=t, form=form),
            inputs,
        )


def test_large_logits_stay_finite_and_half_inputs_give_float32() -> None:
    text, segment, moments, _ = random_case()
    loss = iou_positive_contrastive_loss((100 * text).half(), (10 * segment).half(), moments, tau=0.07)
    assert loss.dtype == torch.float32
    assert loss.isfinite()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"gamma": -0.1}, "gamma must not be negative, got -0.1"),
        ({"tau": 0.0}, "tau must be positive, got 0.0"),
        ({"iou": "diou"}, "iou must be one of .*, got 'diou'"),
        ({"form": "sum"}, "form must be one of .*, got 'sum'"),
        ({"anchor": "video"}, "anchor must be one of .*, got 'video'"),
        ({"reduction": "max"}, "reduction must be one of .*, got 'max'"),
    ],
)
def test_bad_options_are_named(option: dict[str, Any], message: str) -> None:
    text, segment, moments, _ = random_case(3)
    with pytest.raises(ValueError, match=message):
        iou_positive_contrastive_loss(text, segment, moments, **option)
