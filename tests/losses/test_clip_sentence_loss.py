# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from mesm_plugin.losses import ClipSentenceLoss, VideoSentenceContrastiveLoss


def test_clips_by_hand() -> None:
    clips = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]]])
    words = torch.tensor([[[5.0, 0.0], [0.0, 1.0]]])
    mask = torch.tensor([[True, True, False]])
    segment = torch.tensor([[True, False, False]])

    def loss(words_mask: list[bool], counted: torch.Tensor) -> float:
        return ClipSentenceLoss(3.0, tau=0.5)(clips, mask, words, torch.tensor([words_mask]), segment, counted).item()

    inside, outside = math.log(1 + math.exp(-1 / 0.5)), math.log(2)
    assert loss([True, False], mask) == pytest.approx(3 * (inside + outside) / 2)
    # The mean of the two words is (0.5, 0.5), not normalised again; the padded clip has cosine 0.
    inside, outside = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    expected = 3 * (inside + outside + math.log(2)) / 3
    assert loss([True, True], torch.ones_like(mask)) == pytest.approx(expected)


def test_contrast_by_hand() -> None:
    video, sentence = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 1.0], [0.0, 4.0]])
    cosine = torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, 1.0]]) / 0.1
    expected = -(cosine.log_softmax(1).diag().mean() + cosine.log_softmax(0).diag().mean()) / 2
    loss = VideoSentenceContrastiveLoss(0.3, tau=0.1)(video, sentence, torch.arange(2))
    torch.testing.assert_close(loss, 0.3 * expected)


def test_sentences_of_one_video_do_not_compete() -> None:
    torch.manual_seed(0)
    video, sentence = torch.randn(3, 8), torch.randn(4, 8)
    query_video = torch.tensor([0, 1, 1, 2])
    loss = VideoSentenceContrastiveLoss(1.0)(video[query_video], sentence, query_video)
    terms = []
    for i in range(4):
        others = [j for j in range(4) if j == i or query_video[j] != query_video[i]]
        logits = torch.cosine_similarity(sentence[i], video[query_video[others]]) / 0.07
        reverse = torch.cosine_similarity(video[query_video[i]], sentence[others]) / 0.07
        terms += [-x.log_softmax(0)[others.index(i)] for x in (logits, reverse)]
    torch.testing.assert_close(loss, torch.stack(terms).mean())


def test_a_single_pair_is_no_contrast() -> None:
    loss = VideoSentenceContrastiveLoss()(torch.randn(1, 4), torch.randn(1, 4), torch.zeros(1, dtype=torch.int64))
    assert loss.item() == 0
