# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from mesm_plugin.losses import FocalLabelLoss, LabelLoss, SpanGIoULoss, SpanL1Loss


def test_span_losses_by_hand() -> None:
    spans = torch.tensor([[[0.3, 0.2], [0.9, 0.1]], [[0.5, 0.5], [0.0, 0.0]]])
    moments = torch.tensor([[[0.2, 0.4], [0.0, 0.2]], [[0.0, 0.5], [0.0, 0.0]]])
    matched = torch.tensor([[True, True], [True, False]])
    # Centres and widths are off by (0, 0), (0.8, 0.1) and (0.25, 0).
    assert SpanL1Loss(10.0)(spans, moments, matched).item() == pytest.approx(10 * (0 + 0.45 + 0.125) / 3)
    # Generalised IoU: 1; 0 - (0.95 - 0.3) / 0.95; 0.25 / 0.75.
    giou = [1.0, -0.65 / 0.95, 1 / 3]
    assert SpanGIoULoss(2.0)(spans, moments, matched).item() == pytest.approx(2 * sum(1 - g for g in giou) / 3)


def test_nothing_matched_is_zero() -> None:
    spans = torch.rand(2, 1, 2, requires_grad=True)
    for loss in (SpanL1Loss(), SpanGIoULoss()):
        value = loss(spans, torch.zeros(2, 1, 2), torch.zeros(2, 1, dtype=torch.bool))
        assert value.item() == 0
        assert torch.autograd.grad(value, spans)[0].abs().sum() == 0


def test_label_loss_by_hand() -> None:
    logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])
    foreground = torch.tensor([[True, False]])
    expected = (math.log(1 + math.exp(-2)) + 0.1 * math.log(1 + math.exp(-1))) / 2
    assert LabelLoss(4.0, background_weight=0.1)(logits, foreground).item() == pytest.approx(4 * expected)


def test_focal_label_loss_by_hand() -> None:
    logits = torch.tensor([[[2.0, -1.0], [0.5, 1.0]]])
    foreground = torch.tensor([[True, False]])

    def term(logit: float, weight: float) -> float:
        """Of a logit of the right answer."""
        wrong = 1 / (1 + math.exp(logit))
        return -weight * wrong**2 * math.log(1 - wrong)

    expected = (term(2.0, 0.25) + term(1.0, 0.75) + term(-0.5, 0.75) + term(1.0, 0.25)) / 4
    assert FocalLabelLoss(4.0)(logits, foreground).item() == pytest.approx(4 * expected)
    far = FocalLabelLoss()(torch.tensor([[[-1e3, 1e3]]]), torch.tensor([[True]]))
    assert far.item() == pytest.approx(4 * 1e3 / 2)
