# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Losses on adversarial numbers: finite with finite gradients, and blind to padding and order."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mesm_plugin.losses import (
    ClipBCELoss,
    FocalLabelLoss,
    IoUContrastiveLoss,
    LabelLoss,
    MaskedWordLoss,
    NegativePairLoss,
    RankContrastiveLoss,
    SaliencyHingeLoss,
    SpanGIoULoss,
    SpanL1Loss,
)

SCORES = st.sampled_from([0.0, -0.0, 1e-45, 1e-8, 1.0, -1.0, 1 + 2**-23, 30.0, -30.0, 1e4, -1e4])
ENDS = st.sampled_from([0.0, 1e-45, 1e-8, 0.2, 0.2000001, 0.5, 1.0, 1.5, -0.5])
SIZES = st.tuples(st.integers(1, 3), st.integers(1, 4))


def tensor_of(draw: st.DrawFn, values: st.SearchStrategy, *shape: int) -> Tensor:
    count = int(torch.Size(shape).numel())
    return torch.tensor(draw(st.lists(values, min_size=count, max_size=count))).reshape(shape)


def check(loss: Tensor, *inputs: Tensor) -> None:
    """A finite scalar with finite gradients."""
    assert loss.shape == ()
    assert loss.isfinite()
    gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


@given(st.data(), SIZES)
def test_span_losses(data: st.DataObject, size: tuple[int, int]) -> None:
    # The decoders' widths are not negative.
    spans = tensor_of(data.draw, ENDS, *size, 2)
    spans = torch.stack((spans[..., 0], spans[..., 1].abs()), dim=-1).requires_grad_()
    moments = tensor_of(data.draw, ENDS, *size, 2).sort(dim=-1).values
    matched = tensor_of(data.draw, st.booleans(), *size)
    for loss in (SpanL1Loss(), SpanGIoULoss()):
        value = loss(spans, moments, matched)
        check(value, spans)
        assert value >= -1e-6
        if not matched.any():
            assert value == 0
        # What is not matched may hold anything.
        (gradient,) = torch.autograd.grad(loss(spans, moments, matched), spans)
        assert (gradient[~matched] == 0).all()
        other = torch.where(matched[..., None], spans.detach(), 1e30)
        assert loss(other, moments, matched).item() == pytest.approx(value.item(), rel=1e-6)


@given(st.data(), SIZES)
def test_label_losses(data: st.DataObject, size: tuple[int, int]) -> None:
    logits = tensor_of(data.draw, SCORES, *size, 2).requires_grad_()
    foreground = tensor_of(data.draw, st.booleans(), *size)
    order = torch.randperm(size[0], generator=torch.Generator().manual_seed(0))
    for loss in (LabelLoss(), FocalLabelLoss()):
        value = loss(logits, foreground)
        check(value, logits)
        assert value >= 0
        assert loss(logits[order], foreground[order]).item() == pytest.approx(value.item(), rel=1e-5)


@given(st.data(), SIZES)
def test_masked_word_loss(data: st.DataObject, size: tuple[int, int]) -> None:
    logits = tensor_of(data.draw, SCORES, *size, 5).requires_grad_()
    labels = tensor_of(data.draw, st.integers(0, 4), *size)
    mask = tensor_of(data.draw, st.booleans(), *size)
    for loss in (MaskedWordLoss(), MaskedWordLoss(label_smoothing=0.1)):
        value = loss(logits, labels, mask)
        check(value, logits)
        noise = torch.where(mask[..., None], logits.detach(), 1e4)
        assert loss(noise, labels, mask).item() == pytest.approx(value.item(), rel=1e-5, abs=1e-6)


@given(st.data(), SIZES, st.integers(1, 4))
def test_saliency_losses(data: st.DataObject, size: tuple[int, int], valid: int) -> None:
    queries, clips = size
    scores = tensor_of(data.draw, SCORES, *size).requires_grad_()
    negative = tensor_of(data.draw, SCORES, *size).requires_grad_()
    mask = (torch.arange(clips) < min(valid, clips)).expand(size)
    drawn = tensor_of(data.draw, st.integers(0, min(valid, clips) - 1), 2, queries, 2)
    targets = {
        "segment_mask": tensor_of(data.draw, st.booleans(), *size) & mask,
        "saliency": tensor_of(data.draw, st.integers(0, 12), *size).float().masked_fill(~mask, 0),
        "hinge_positive": drawn[0],
        "hinge_negative": drawn[1],
    }
    noise = torch.full(size, 77.0)
    for loss in (ClipBCELoss(), RankContrastiveLoss(), NegativePairLoss(), SaliencyHingeLoss()):
        for other in (negative, None):
            value = loss(scores, other, mask, targets)
            check(value, scores, negative)
            assert value >= -1e-5
            clean = [None if x is None else torch.where(mask, x, noise) for x in (scores, other)]
            padded = loss(*clean, mask, targets)
            assert padded.item() == pytest.approx(value.item(), rel=1e-5, abs=1e-6), loss


@st.composite
def contrasted(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Words, their mask, segments, moments and sources of 1 to 4 queries."""
    queries, words = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    values = st.sampled_from([0.0, 1e-20, 1.0, -1.0, 0.5, 100.0, -100.0])
    mask = tensor_of(draw, st.booleans(), queries, words)
    mask[:, 0] = True
    return (
        tensor_of(draw, values, queries, words, 2),
        mask,
        tensor_of(draw, values, queries, 2),
        tensor_of(draw, ENDS, queries, 2).sort(dim=-1).values,
        tensor_of(draw, st.integers(0, 2), queries),
    )


RELEASED = {
    "similarity": "cosine",
    "iou": "giou",
    "same_source": True,
    "form": "mean_log",
    "anchor": "segment",
    "eps": 1e-6,
}
FORMS: list[Callable[[], IoUContrastiveLoss]] = [
    IoUContrastiveLoss,
    lambda: IoUContrastiveLoss(**RELEASED),  # type: ignore[arg-type]
    lambda: IoUContrastiveLoss(gamma=0.0, similarity="cosine"),
    lambda: IoUContrastiveLoss(gamma=1.0, iou="giou", form="mean_log"),
]


@pytest.mark.parametrize("make", FORMS)
@given(case=contrasted())
@settings(max_examples=60)
def test_contrastive_loss(make: Callable[[], IoUContrastiveLoss], case: tuple[Tensor, ...]) -> None:
    words, mask, segment, moments, source = case
    words, segment = words.requires_grad_(), segment.requires_grad_()
    loss = make()
    value = loss(words, mask, segment, moments, source)
    check(value, words, segment)
    order = torch.randperm(len(words), generator=torch.Generator().manual_seed(1))
    shuffled = loss(words[order], mask[order], segment[order], moments[order], source[order])
    assert shuffled.item() == pytest.approx(value.item(), rel=1e-4, abs=1e-4)
    noise = torch.where(mask[..., None], words.detach(), torch.nan)
    assert loss(noise, mask, segment, moments, source).item() == pytest.approx(value.item(), rel=1e-5, abs=1e-6)
