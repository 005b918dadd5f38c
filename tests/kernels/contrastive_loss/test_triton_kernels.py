# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The Triton kernels of the contrastive loss against float64, wherever kernels can run."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from mesm_plugin.kernels import iou_positive_contrastive_loss
from mesm_plugin.kernels.contrastive_loss import operator
from mesm_plugin.kernels.tiles import Rule, Tile
from tests.kernels.contrastive_loss.cases import Result, error, random_case
from tests.kernels.interpreter_checks import Checks, checked, poisoned

# Both values of every option, and every pair of form and reduction that differs in its kernels.
PAPER = {"gamma": 0.5, "iou": "iou", "form": "log_sum", "anchor": "text", "reduction": "mean"}
RELEASED = {"gamma": 0.5, "iou": "giou", "form": "mean_log", "anchor": "segment", "reduction": "none", "eps": 1e-6}
MIXED = {"gamma": 0.3, "iou": "giou", "form": "log_sum", "anchor": "segment", "reduction": "none", "eps": 1e-2}
SUMMED = {"gamma": 0.3, "iou": "iou", "form": "mean_log", "anchor": "text", "reduction": "sum", "eps": 1e-2}
EVERY_FORM = pytest.mark.parametrize("options", [PAPER, RELEASED, MIXED, SUMMED], ids=["paper", "released", "3", "4"])
BOTH_FORMS = pytest.mark.parametrize("options", [PAPER, RELEASED], ids=["paper", "released"])

# Bounds of the error of the gradients of the features and of tau.
TOLERANCE = {torch.float32: (2e-6, 1e-4), torch.float16: (1.5e-3, 5e-3), torch.bfloat16: (1e-2, 5e-3)}


@pytest.fixture(autouse=True)
def checks(kernel_device: torch.device) -> Iterator[Checks | None]:
    """Bounds and double stores are checked in every test whose kernels are interpreted."""
    with checked() if kernel_device.type == "cpu" else nullcontext() as seen:
        yield seen


def assert_close_to_truth(ours: Result, truth: Result, dtype: torch.dtype) -> None:
    features, tau = TOLERANCE[dtype]
    assert ours.loss.dtype == torch.float32
    assert (ours.text.dtype, ours.segment.dtype) == (dtype, dtype)
    if truth.loss.dim():
        # In float32 a logit of 15 is that far off; PyTorch's loss of single rows by up to 7e-6.
        assert (ours.loss.double() - truth.loss).abs().max() <= 6e-6
    scale = max(float(truth.loss.abs().mean()), 1.0)
    assert (ours.loss.double().mean() - truth.loss.mean()).abs() <= 2e-6 * scale
    assert error(ours.text, truth.text) <= features
    assert error(ours.segment, truth.segment) <= features
    assert error(ours.tau, truth.tau) <= tau


@EVERY_FORM
@pytest.mark.parametrize("counts", [(1, 1), (31, 31), (64, 64), (100, 100), (129, 129), (33, 70), (70, 20)])
def test_float32_for_every_shape(kernel_device: torch.device, counts: tuple[int, int], options: dict[str, Any]) -> None:
    case = random_case(*counts, device=kernel_device)
    if counts == (1, 1):
        # An anchor without a positive has no gradient to compare.
        moments = case.moments[0].new_tensor([[2.0, 5.0]])
        case = replace(case, moments=(moments, moments), group=None)
        assert case.run(backend="triton", **options).loss.abs().max() <= 1e-2
        return
    assert_close_to_truth(case.run(backend="triton", **options), case.truth(**options), torch.float32)


@EVERY_FORM
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(kernel_device: torch.device, dtype: torch.dtype, options: dict[str, Any]) -> None:
    for grouped in (True, False):
        case = random_case(100, 70, 64, dtype, kernel_device, grouped=grouped)
        assert_close_to_truth(case.run(backend="triton", **options), case.truth(**options), dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@BOTH_FORMS
def test_huge_logits(kernel_device: torch.device, dtype: torch.dtype, options: dict[str, Any]) -> None:
    case = random_case(64, 64, 64, dtype, kernel_device, largest_logit=3700.0)
    ours, truth = case.run(backend="triton", **options), case.truth(**options)
    assert (ours.loss.double() - truth.loss).abs().max() <= 1e-6 * 3700
    assert error(ours.text, truth.text) <= 1e-2
    assert error(ours.segment, truth.segment) <= 1e-2


@pytest.mark.parametrize(("form", "reduction"), [("log_sum", "sum"), ("mean_log", "none")])
def test_tiny_float16_gradients_survive(kernel_device: torch.device, form: str, reduction: str) -> None:
    """Probabilities and upstream gradient of 8192 rows: their product is zero in float16."""
    case = random_case(64, 8192, 32, torch.float16, kernel_device, largest_logit=2.0, grouped=False)
    # The gradient of the text is as large as segments are; it must not be tiny itself.
    case = replace(case, text=case.text / 16, segment=case.segment * 16)
    options: dict[str, Any] = {"gamma": 0.5, "form": form, "reduction": reduction, "upstream": 1 / 8192}
    ours, truth = case.run(backend="triton", **options), case.truth(**options)
    assert error(ours.text, truth.text) <= 1e-3
    assert (ours.segment.double() - truth.segment).abs().max() <= 3.1e-8


@pytest.mark.parametrize("gamma", [0.3, 0.5, 0.6, 0.9])
@pytest.mark.parametrize("iou", ["iou", "giou"])
def test_positives_on_whole_numbers_are_exact(kernel_device: torch.device, gamma: float, iou: str) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randint(0, 9, (60,), generator=generator)
    spans = torch.stack((start, start + torch.randint(0, 12, (60,), generator=generator)), dim=1)
    length = torch.tensor([10, 20, 30, 50, 100, 300, 500, 1000])
    # Moments that start together have the IoU of their lengths.
    ends = torch.cat((length, (10 * gamma * length / 10).round().long(), (gamma * length).round().long() - 1))
    spans = torch.cat((spans, torch.stack((torch.zeros_like(ends), ends), dim=1)))
    (start_a, end_a), (start_b, end_b) = spans[:, None].unbind(-1), spans[None].unbind(-1)
    inter = (torch.minimum(end_a, end_b) - torch.maximum(start_a, start_b)).clamp(min=0)
    union = (end_a - start_a) + (end_b - start_b) - inter
    hull = torch.maximum(end_a, end_b) - torch.minimum(start_a, start_b)
    tenths = round(10 * gamma)
    assert ((10 * inter == tenths * union) & (union > 0)).sum() >= 16
    if iou == "iou":
        expected = 10 * inter > tenths * union
    else:
        expected = (10 * (inter * hull - (hull - union) * union) >= tenths * union * hull) & (union > 0)

    # With equal logits and one channel per segment, the gradient of a text is 1/M in the channels of segments that are
    # no positives, and less in those of positives.
    count = len(spans)
    text = torch.zeros(count, count, device=kernel_device, requires_grad=True)
    loss = iou_positive_contrastive_loss(
        text,
        torch.eye(count, device=kernel_device),
        spans.to(kernel_device),
        gamma=gamma,
        tau=1.0,
        iou=iou,  # type: ignore[arg-type]
        form="mean_log",
        reduction="sum",
        backend="triton",
    )
    loss.backward()
    assert text.grad is not None
    positive = (text.grad < 0.5 / count) & (text.grad != 0).any(dim=1, keepdim=True)
    assert torch.equal(positive.cpu(), expected)


@BOTH_FORMS
def test_splits_and_tiles_agree(
    kernel_device: torch.device, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = random_case(20, 70, device=kernel_device)
    expected = case.run(backend="triton", **options)
    rules = (Rule(Tile(32, 16, 4, 1, channels=16, part=32)),)
    monkeypatch.setattr(operator, "CONTRASTIVE_LOSS", rules)
    # The last of sixteen splits of five tiles of columns have none.
    for splits in operator.SPLITS:
        monkeypatch.setattr(operator, "number_of_splits", lambda *_, splits=splits: splits)
        for ours, value in zip(case.run(backend="triton", **options), expected, strict=True):
            assert error(ours, value.double()) <= 5e-6


@BOTH_FORMS
def test_anchors_without_positives(kernel_device: torch.device, options: dict[str, Any]) -> None:
    case = random_case(20, 20, device=kernel_device)
    moments = case.moments[0].clone()
    moments[3:7, 1] = moments[3:7, 0]
    case = replace(case, moments=(moments, moments), group=None)
    ours = case.run(backend="triton", **(options | {"reduction": "none"}))
    assert (ours.loss[3:7] == 0).all()
    grad = ours.text if options["anchor"] == "text" else ours.segment
    assert (grad[3:7] == 0).all()

    everywhere = replace(case, moments=(moments * 0, moments * 0)).run(backend="triton", **options)
    assert all((value == 0).all() for value in everywhere)


@pytest.mark.parametrize(("texts", "segments"), [(0, 0), (0, 3), (3, 0)])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_nothing_to_contrast_is_zero(kernel_device: torch.device, texts: int, segments: int, reduction: str) -> None:
    case = replace(random_case(3, 3, device=kernel_device), group=None)
    case = replace(
        case,
        text=case.text[:texts],
        segment=case.segment[:segments],
        moments=(case.moments[0][:texts], case.moments[1][:segments]),
    )
    ours = case.run(backend="triton", reduction=reduction)
    assert ours.loss.shape == ((texts,) if reduction == "none" else ())
    assert all((value == 0).all() for value in ours)


@pytest.mark.parametrize("form", ["log_sum", "mean_log"])
def test_not_a_number_stays_visible(kernel_device: torch.device, form: str) -> None:
    case = random_case(20, 20, device=kernel_device, grouped=False)
    case.segment[4] = torch.nan
    loss = case.run(backend="triton", form=form, gamma=0.1, reduction="none").loss
    truth = case.truth(form=form, gamma=0.1, reduction="none").loss
    assert torch.equal(loss.isnan(), truth.isnan())
    assert loss.isnan().any()


@BOTH_FORMS
def test_same_bits_twice_and_poisoned_neighbours(kernel_device: torch.device, options: dict[str, Any]) -> None:
    case = random_case(40, 70, 48, torch.float16, kernel_device)
    assert case.group is not None
    first, second = (case.run(backend="triton", **options) for _ in range(2))
    surrounded = replace(
        case,
        moments=(poisoned(case.moments[0]), poisoned(case.moments[1])),
        group=(poisoned(case.group[0]), poisoned(case.group[1])),
    )
    third = surrounded.run(backend="triton", **options)
    for a, b, c in zip(first, second, third, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_strided_features_between_poison(kernel_device: torch.device) -> None:
    case = random_case(20, 30, 48, device=kernel_device)
    moments, expected = case.moments, iou_positive_contrastive_loss(case.text, case.segment, case.moments, gamma=0.5)
    for dim in (0, 1):
        text, segment = poisoned(case.text, dim), poisoned(case.segment, dim)
        loss = iou_positive_contrastive_loss(text, segment, moments, gamma=0.5, backend="triton")
        assert loss.isfinite()
        torch.testing.assert_close(loss, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("options", [PAPER, SUMMED], ids=["log_sum", "mean_log"])
def test_gradcheck(interpreter: torch.device, options: dict[str, Any]) -> None:
    case = random_case(4, 5, 3, torch.float64, interpreter, tau=0.7)
    inputs = (case.text.requires_grad_(), case.segment.requires_grad_(), case.tau.double().requires_grad_())
    # eps is added after the maximum is subtracted, which gradients do not see.
    chosen = options | {"eps": 0.0, "reduction": "none", "backend": "triton"}
    assert torch.autograd.gradcheck(
        lambda a, b, t: iou_positive_contrastive_loss(a, b, case.moments, case.group, tau=t, **chosen), inputs
    )


@BOTH_FORMS
def test_float64_equals_the_reference(interpreter: torch.device, options: dict[str, Any]) -> None:
    case = random_case(40, 70, dtype=torch.float64, device=interpreter)
    case = replace(case, tau=case.tau.double())
    for ours, truth in zip(case.run(backend="triton", **options), case.truth(**options), strict=True):
        assert error(ours, truth) <= 1e-13


@BOTH_FORMS
def test_two_launches_forward_and_one_backward(
    interpreter: torch.device, checks: Checks, options: dict[str, Any]
) -> None:
    random_case(70, 70, device=interpreter).run(backend="triton", **options)
    assert checks.launches == {operator.FORWARD: 1, operator.MERGE: 1, operator.BACKWARD: 1}


def test_nothing_of_the_size_of_the_logits_is_stored(interpreter: torch.device, checks: Checks) -> None:
    count, channels = 320, 16
    case = random_case(count, count, channels, device=interpreter)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        ours = case.run(backend="triton", gamma=0.5)
    splits = operator.number_of_splits(5, 5)
    assert {name: sum(stored.values()) for name, stored in checks.stored.items()} == {
        operator.FORWARD: 4 * 4 * splits * count,
        operator.MERGE: 4 * 4 * count + 4,
        operator.BACKWARD: 4 * (2 * count * channels + count),
    }
    largest = max(event.self_cpu_memory_usage for event in profiler.events())
    assert ours.text.nbytes <= largest < count * count
    # Nor does anything wait for the GPU.
    assert not [event.name for event in profiler.events() if event.name == "aten::_local_scalar_dense"]


def test_without_the_emulation_of_bfloat16_the_error_shows(
    interpreter: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = random_case(31, 31, 32, torch.bfloat16, interpreter)
    truth = case.truth(**PAPER)
    assert_close_to_truth(case.run(backend="triton", **PAPER), truth, torch.bfloat16)
    monkeypatch.setattr(operator, "emulates_bf16", lambda dtype: False)
    with pytest.raises(AssertionError):
        assert_close_to_truth(case.run(backend="triton", **PAPER), truth, torch.bfloat16)
