# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from mesm_plugin.losses import MaskedWordLoss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_by_hand(smoothing: float) -> None:
    logits = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], [[0.0, 0.0, 3.0], [9.0, 9.0, 0.0]]])
    labels = torch.tensor([[0, 0], [2, 0]])
    mask = torch.tensor([[True, True], [True, False]])

    def word(values: list[float], label: int) -> float:
        normaliser = math.log(sum(math.exp(v) for v in values))
        negative = [normaliser - v for v in values]
        return (1 - smoothing) * negative[label] + smoothing * sum(negative) / 3

    first = (word([1, 0, 0], 0) + word([0, 2, 0], 0)) / 2
    second = word([0, 0, 3], 2)
    loss = MaskedWordLoss(0.5, label_smoothing=smoothing)(logits, labels, mask)
    assert loss.item() == pytest.approx(0.5 * (first + second) / 2)


def test_sentence_without_words_is_finite() -> None:
    loss = MaskedWordLoss()(torch.randn(1, 2, 4), torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 2).bool())
    assert loss.item() == 0
