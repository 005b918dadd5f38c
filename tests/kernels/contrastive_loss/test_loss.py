# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The reference of the contrastive loss, and the checks of its inputs."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mesm_plugin.kernels import iou_positive_contrastive_loss
from mesm_plugin.kernels.backend import ENVIRONMENT_VARIABLE
from mesm_plugin.kernels.contrastive_loss.reference import positive_pairs

TEXTS, SEGMENTS = 9, 6


def brute_force(
    text: Tensor,
    segment: Tensor,
    moments: tuple[Tensor, Tensor],
    group: tuple[Tensor, Tensor] | None,
    *,
    gamma: float,
    tau: float,
    iou: str,
    form: str,
    anchor: str,
    eps: float,
) -> list[float]:
    """Eq. 5 and its variants, one row and one column at a time."""
    features, spans, groups = (text, segment), moments, group
    if anchor == "segment":
        features, spans, groups = features[::-1], spans[::-1], groups[::-1] if groups else None
    rows = []
    for i in range(len(features[0])):
        logits, positives = [], []
        for j in range(len(features[1])):
            logits.append(float(features[0][i] @ features[1][j]) / tau)
            (s, e), (t, f) = spans[0][i].tolist(), spans[1][j].tolist()
            inter = max(0, min(e, f) - max(s, t))
            union = (e - s) + (f - t) - inter
            hull = max(e, f) - min(s, t)
            overlap = inter / union if iou == "iou" else inter / union - (hull - union) / hull
            near = overlap > gamma if iou == "iou" else overlap >= gamma
            positives.append(near and (groups is None or groups[0][i] == groups[1][j]))
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


def random_side(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features, moments and groups of some texts or segments."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(0, 12, (count,), generator=generator)
    moments = torch.stack((start, start + torch.randint(1, 9, (count,), generator=generator)), dim=1).double()
    group = torch.randint(0, 3, (count,), generator=generator)
    return torch.randn(count, 6, generator=generator, dtype=torch.float64), moments, group


def random_case(count: int = TEXTS) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Text, segment, moments and group of as many texts as segments."""
    text, moments, group = random_side(count, 0)
    return text, random_side(count, 1)[0], moments, group


@pytest.mark.parametrize("iou", ["iou", "giou"])
@pytest.mark.parametrize("form", ["log_sum", "mean_log"])
@pytest.mark.parametrize("anchor", ["text", "segment"])
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("eps", [0.0, 1e-2])
def test_equals_a_loop(iou: Any, form: Any, anchor: Any, grouped: bool, eps: float) -> None:
    text, segment, moments, group = random_case()
    options: dict[str, Any] = {"gamma": 0.5, "tau": 0.3, "iou": iou, "form": form, "anchor": anchor, "eps": eps}
    pair = (group, group) if grouped else None
    expected = torch.tensor(brute_force(text, segment, (moments, moments), pair, **options), dtype=torch.float64)
    chosen = group if grouped else None
    for reduction, value in (("none", expected), ("mean", expected.mean()), ("sum", expected.sum())):
        ours = iou_positive_contrastive_loss(text, segment, moments, chosen, **options, reduction=reduction)
        torch.testing.assert_close(ours, value)


@pytest.mark.parametrize("counts", [(TEXTS, SEGMENTS), (SEGMENTS, TEXTS), (TEXTS, TEXTS)])
@pytest.mark.parametrize("form", ["log_sum", "mean_log"])
@pytest.mark.parametrize("anchor", ["text", "segment"])
@pytest.mark.parametrize("grouped", [True, False])
def test_texts_and_segments_that_differ_in_number(
    counts: tuple[int, int], form: Any, anchor: Any, grouped: bool
) -> None:
    (text, *of_text), (segment, *of_segment) = (random_side(count, seed) for seed, count in enumerate(counts))
    moments, group = zip(of_text, of_segment, strict=True)
    options: dict[str, Any] = {"gamma": 0.5, "tau": 0.3, "iou": "iou", "form": form, "anchor": anchor, "eps": 0.0}
    pair = group if grouped else None
    expected = torch.tensor(brute_force(text, segment, moments, pair, **options), dtype=torch.float64)
    ours = iou_positive_contrastive_loss(text, segment, moments, pair, **options, reduction="none")
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("percent", [10, 30, 50, 53, 60, 84, 90, 100])
def test_positives_on_whole_numbers_are_exact(dtype: torch.dtype, percent: int) -> None:
    generator = torch.Generator().manual_seed(percent)
    start = torch.randint(0, 40, (400,), generator=generator)
    spans = torch.stack((start, start + torch.randint(0, 40, (400,), generator=generator)), dim=1)
    # Moments that start together have the IoU of their lengths: all lengths that make it gamma, and those next to them.
    length = torch.arange(100, 4001, 100)
    part = length * percent // 100
    ends = torch.cat((length, part, part - 1, part + 1))
    spans = torch.cat((spans, torch.stack((torch.zeros_like(ends), ends), dim=1)))

    (start_a, end_a), (start_b, end_b) = spans[:, None].unbind(-1), spans[None].unbind(-1)
    inter = (torch.minimum(end_a, end_b) - torch.maximum(start_a, start_b)).clamp(min=0)
    union = (end_a - start_a) + (end_b - start_b) - inter
    hull = torch.maximum(end_a, end_b) - torch.minimum(start_a, start_b)
    exact = {
        "iou": 100 * inter > percent * union,
        "giou": (100 * (inter * hull - (hull - union) * union) >= percent * union * hull) & (union > 0),
    }
    assert ((100 * inter == percent * union) & (union > 0)).sum() >= 80
    for iou, expected in exact.items():
        pairs = positive_pairs(spans.to(dtype), spans.to(dtype), percent / 100, iou)  # type: ignore[arg-type]
        assert torch.equal(pairs, expected)


@pytest.mark.parametrize("iou", ["iou", "giou"])
@pytest.mark.parametrize("form", ["log_sum", "mean_log"])
def test_rows_without_positives_count_as_zero(iou: Any, form: Any) -> None:
    text, segment, moments, _ = random_case(4)
    moments[1] = 3.0  # a moment of length zero overlaps nothing, itself included
    text.requires_grad_()
    rows = iou_positive_contrastive_loss(text, segment, moments, gamma=0.9, iou=iou, form=form, reduction="none")
    assert rows[1] == 0
    gradient = torch.autograd.grad(rows.sum(), text)[0]
    assert gradient.isfinite().all()
    assert (gradient[1] == 0).all()


@pytest.mark.parametrize(("texts", "segments"), [(0, 0), (0, 3), (3, 0)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_nothing_to_contrast_is_zero(texts: int, segments: int, reduction: Any) -> None:
    text, segment = torch.ones(texts, 4, requires_grad=True), torch.ones(segments, 4, requires_grad=True)
    moments = (torch.ones(texts, 2), torch.ones(segments, 2))
    loss = iou_positive_contrastive_loss(text, segment, moments, reduction=reduction)
    assert loss.shape == ((texts,) if reduction == "none" else ())
    assert (loss == 0).all()
    loss.sum().backward()
    assert text.grad is not None
    assert segment.grad is not None
    assert (text.grad == 0).all()
    assert (segment.grad == 0).all()


@pytest.mark.parametrize("form", ["log_sum", "mean_log"])
def test_gradcheck_and_learned_temperature(form: Any) -> None:
    text, segment, moments, group = random_case(5)
    tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, b, t: iou_positive_contrastive_loss(a, b, moments, group, gamma=0.4, tau=t, form=form),
        (text.requires_grad_(), segment.requires_grad_(), tau),
    )


def test_large_logits_stay_finite_and_half_inputs_give_float32() -> None:
    text, segment, moments, _ = random_case()
    loss = iou_positive_contrastive_loss((100 * text).half(), (10 * segment).half(), moments, tau=0.07)
    assert loss.dtype == torch.float32
    assert loss.isfinite()


def test_autocast_leaves_logits_in_float32() -> None:
    text, segment, moments, _ = random_case()
    text, segment = text.bfloat16(), segment.float()
    expected = iou_positive_contrastive_loss(text.float(), segment, moments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = iou_positive_contrastive_loss(text, segment, moments)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)


TEXT, SEGMENT, MOMENTS, GROUP = random_case(3)
META = torch.device("meta")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma": -0.1}, "gamma must be finite and not negative, got -0.1"),
        ({"eps": -1e-6}, "eps must be finite and not negative, got -1e-06"),
        ({"tau": 0.0}, "tau must be positive and finite, got 0.0"),
        ({"tau": torch.ones(2)}, r"tau must be .* one floating-point number .* of shape \(2,\)"),
        ({"tau": torch.ones((), device=META)}, "tau must be .* on cpu, got .* on meta"),
        ({"iou": "diou"}, "iou must be one of .*, got 'diou'"),
        ({"form": "sum"}, "form must be one of .*, got 'sum'"),
        ({"anchor": "video"}, "anchor must be one of .*, got 'video'"),
        ({"reduction": "max"}, "reduction must be one of .*, got 'max'"),
        ({"backend": "cuda"}, "backend must be one of .*, got 'cuda'"),
        ({"text": TEXT[0]}, r"text must have 2 dimensions, .*, got \(6,\)"),
        ({"text": TEXT.long()}, "text must be float16, .*, got torch.int64"),
        ({"segment": SEGMENT[None]}, r"segment must have 2 dimensions, .*, got \(1, 3, 6\)"),
        ({"segment": SEGMENT[:, :5]}, "segment must have the 6 channels of text, got 5"),
        ({"segment": SEGMENT.float()}, "segment must have the dtype of text, torch.float64, got torch.float32"),
        ({"segment": SEGMENT.to(META)}, "segment must be on the device of text, cpu, got meta"),
        ({"segment": SEGMENT[:2]}, "moments must be a pair of tensors, text first, .* 3 and 2; got one tensor"),
        ({"segment": SEGMENT[:2], "moments": (MOMENTS, MOMENTS[:2])}, "group must be a pair of tensors, text first"),
        ({"moments": (MOMENTS,)}, "moments must be a tensor or a pair of tensors, text first, got 1 of them"),
        ({"moments": (MOMENTS, MOMENTS[:2])}, r"moments must have shape \(3, 2\), .*, got \(2, 2\)"),
        ({"moments": MOMENTS[:, :1]}, r"moments must have shape \(3, 2\), .*, got \(3, 1\)"),
        ({"moments": MOMENTS > 0}, "moments must be real numbers, got torch.bool"),
        ({"moments": MOMENTS.to(META)}, "moments must be on the device of the features, cpu, got meta"),
        ({"group": GROUP[:2]}, r"group must be int64 of shape \(3,\), got torch.int64 of shape \(2,\)"),
        ({"group": GROUP.int()}, r"group must be int64 of shape \(3,\), got torch.int32"),
        ({"group": GROUP.to(META)}, "group must be on the device of the features, cpu, got meta"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    inputs: dict[str, Any] = {"text": TEXT, "segment": SEGMENT, "moments": MOMENTS, "group": GROUP}
    with pytest.raises(ValueError, match=message):
        iou_positive_contrastive_loss(**(inputs | arguments))


def test_bad_backend_of_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "cuda")
    with pytest.raises(ValueError, match=f"{ENVIRONMENT_VARIABLE} must be one of .*, got 'cuda'"):
        iou_positive_contrastive_loss(TEXT, SEGMENT, MOMENTS)
