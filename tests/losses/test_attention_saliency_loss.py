# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from mesm_plugin.losses import AttentionSaliencyLoss, RankContrastiveLoss

TO_WORDS = torch.tensor([[0.75, 0.5, 0.25]])
NEGATIVE = torch.tensor([[0.5, 0.75, 0.9]])
MASK = torch.tensor([[True, True, False]])
BATCH = {
    "saliency": torch.tensor([[3.0, 0.0, 0.0]]),
    "hinge_positive": torch.tensor([[0, 0]]),
    "hinge_negative": torch.tensor([[1, 1]]),
}


@pytest.mark.parametrize("with_negative", [False, True])
def test_by_hand(with_negative: bool) -> None:
    to_words = torch.cat((TO_WORDS, NEGATIVE)) if with_negative else TO_WORDS
    loss = AttentionSaliencyLoss(2.0, margin=0.5)(to_words, 1 - to_words, MASK, BATCH)
    rank = RankContrastiveLoss()(TO_WORDS, NEGATIVE if with_negative else None, MASK, BATCH).item()
    hinge = 2 * (0.5 + 0.5 - 0.75)
    # The padded clip counts here, as one outside the moment.
    cross_entropy = -(math.log(0.75) + math.log(0.5) + math.log(0.75)) / 3
    negative = -(math.log(0.5) + math.log(0.25)) if with_negative else 0.0
    assert loss.item() == pytest.approx(2 * (rank + hinge + cross_entropy + negative), rel=1e-6)


def test_finite_where_all_attention_is_on_one_side() -> None:
    to_words = torch.tensor([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]], requires_grad=True)
    to_dummies = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], requires_grad=True)
    AttentionSaliencyLoss()(to_words, to_dummies, MASK, BATCH).backward()
    assert to_words.grad.isfinite().all()
    assert to_dummies.grad.isfinite().all()
