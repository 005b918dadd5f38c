# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from mesm_plugin.losses import MomentSentenceLoss


def test_by_hand() -> None:
    first, second = torch.eye(2)
    moment, background = torch.stack((2 * first, 3 * second)), torch.stack((-first, -second))
    sentence, dummy_sentence = torch.stack((first, second)), torch.stack((-first, second))
    clips = torch.zeros(2, 3, 2)
    clips[0, 0, 0] = 100.0
    mask = torch.tensor([[True, True, False], [True, True, True]])
    inside = torch.tensor([[True, False, False], [False, True, False]])
    # Cosines of moment 0 with the sentences are 1, 0, and those of its background -1, 0; so are those of moment 1.
    sentences = math.log(math.e + 1 + math.exp(-1) + 1) - 1
    # The target of moment 0 is the dummy sentence of query 1, for all others that of query 0.
    dummies_0 = math.log(math.exp(-1) + 1 + math.e + 1) - 0
    dummies_1 = math.log(1 + math.e + 1 + math.exp(-1)) - 0
    # One clip is certain, the other four valid ones are undecided; the padded one counts in the mean.
    clips_inside = 4 * math.log(2) / 6
    loss = MomentSentenceLoss(2.0)(moment, background, sentence, dummy_sentence, clips, mask, inside)
    assert loss.item() == pytest.approx(2 * (sentences + (dummies_0 + dummies_1) / 2 + clips_inside), rel=1e-6)


def test_a_single_query() -> None:
    tokens = torch.eye(4)[:, None]
    inside = torch.ones(1, 3, dtype=torch.bool)
    loss = MomentSentenceLoss()(*tokens, torch.zeros(1, 3, 4), inside, inside)
    assert loss.item() == pytest.approx(3 * math.log(2), rel=1e-6)


def test_certain_clips_keep_their_gradient() -> None:
    moment = torch.full((1, 4), 50.0, requires_grad=True)
    outside = torch.zeros(1, 1, dtype=torch.bool)
    token = torch.ones(1, 4)
    MomentSentenceLoss()(moment, token, token, token, torch.ones(1, 1, 4), ~outside, outside).backward()
    torch.testing.assert_close(moment.grad, torch.ones(1, 4))
