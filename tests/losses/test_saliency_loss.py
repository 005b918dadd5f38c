# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from mesm_plugin.losses import ClipBCELoss, NegativePairLoss, RankContrastiveLoss, SaliencyHingeLoss

SCORES = torch.tensor([[1.0, -1.0, 3.0], [0.5, 2.0, 9.0]])
NEGATIVE = torch.tensor([[0.0, 1.0, 5.0], [-1.0, 0.5, 9.0]])
MASK = torch.tensor([[True, True, True], [True, True, False]])
LABELS = torch.tensor([[2.0, 0.0, 1.0], [0.0, 0.0, 0.0]])


def log_softmax(values: list[float], i: int) -> float:
    return values[i] - math.log(sum(math.exp(v) for v in values))


def test_clip_bce_by_hand() -> None:
    inside = torch.tensor([[True, False, True], [False, True, True]])
    p = 1 / (1 + torch.exp(-SCORES))
    first = -(p[0, 0].log() + (1 - p[0, 1]).log() + p[0, 2].log()) / 3
    second = -((1 - p[1, 0]).log() + p[1, 1].log()) / 2
    loss = ClipBCELoss(3.0)(SCORES, None, MASK, {"segment_mask": inside})
    assert loss.item() == pytest.approx(3 * (first + second).item() / 2)


@pytest.mark.parametrize("negative", [None, NEGATIVE])
def test_rank_contrastive_by_hand(negative: torch.Tensor | None) -> None:
    row = [2 * s for s in (SCORES[0].tolist() + ([] if negative is None else negative[0].tolist()))]
    level1 = -(log_softmax(row, 0) + log_softmax(row, 2)) / 2
    level2 = -log_softmax(row, 0)
    loss = RankContrastiveLoss(4.0, tau=0.5, divisor=12.0)(SCORES, negative, MASK, {"saliency": LABELS})
    # The second video has no positive clip at any level and counts as 0.
    assert loss.item() == pytest.approx(4 * (level1 + level2) / 2 / 12, rel=1e-5)


def test_rank_contrastive_can_leave_negative_pairs_out() -> None:
    loss = RankContrastiveLoss(negative_pairs=False)
    targets = {"saliency": LABELS}
    assert loss(SCORES, NEGATIVE, MASK, targets) == RankContrastiveLoss()(SCORES, None, MASK, targets)
    assert not loss.uses_negative_pairs
    assert RankContrastiveLoss().uses_negative_pairs


def test_negative_pair_by_hand_and_for_large_scores() -> None:
    expected = sum(math.log(1 + math.exp(s)) for s in (0.0, 1.0, 5.0, -1.0, 0.5)) / 2
    assert NegativePairLoss(2.0)(SCORES, NEGATIVE, MASK, {}).item() == pytest.approx(2 * expected)
    assert NegativePairLoss()(SCORES, NEGATIVE * 1000, MASK, {}).isfinite()
    assert NegativePairLoss()(SCORES, None, MASK, {}).item() == 0


def test_hinge_by_hand() -> None:
    targets = {"hinge_positive": torch.tensor([[2, 0], [0, 0]]), "hinge_negative": torch.tensor([[1, 1], [1, 1]])}
    # 0.2 - 1 - 3 and 0.2 - 1 - 1 are below zero; 0.2 + 2 - 0.5 counts twice.
    loss = SaliencyHingeLoss(1.0, margin=0.2)(SCORES, NEGATIVE, MASK, targets)
    assert loss.item() == pytest.approx(2 * (1.7 + 1.7) / 4)


def test_padded_clips_have_no_gradient() -> None:
    scores, negative = SCORES.clone().requires_grad_(), NEGATIVE.clone().requires_grad_()
    targets = {"segment_mask": LABELS > 0, "saliency": torch.ones(2, 3)}
    for loss in (ClipBCELoss(), RankContrastiveLoss(), NegativePairLoss()):
        gradients = torch.autograd.grad(
            loss(scores, negative, MASK, targets), (scores, negative), allow_unused=True, materialize_grads=True
        )
        for gradient in gradients:
            assert (gradient[~MASK] == 0).all(), type(loss).__name__
