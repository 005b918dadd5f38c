# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import torch

from mesm_plugin.models.layers import TrilinearFusion
from mesm_plugin.models.layers.trilinear_fusion import masked_softmax


def build() -> TrilinearFusion:
    torch.manual_seed(0)
    return TrilinearFusion(8, 0.0)


def test_fusion_by_hand() -> None:
    fusion = build()
    clips, words = torch.randn(1, 5, 8), torch.randn(1, 3, 8)
    fused = fusion(clips, torch.ones(1, 5, dtype=torch.bool), words, torch.ones(1, 3, dtype=torch.bool))
    c, w = clips[0], words[0]
    score = torch.empty(5, 3)
    for i in range(5):
        for j in range(3):
            score[i, j] = c[i] @ fusion.clip_weight + w[j] @ fusion.word_weight + (c[i] * w[j]) @ fusion.product_weight
    over_words = score.softmax(1)
    told = over_words @ w
    seen = over_words @ score.softmax(0).T @ c
    hidden = fusion.fusion(torch.cat((c, told, c * told, c * seen), dim=1))
    sentence = (w @ fusion.sentence_weight).softmax(0) @ w
    expected = fusion.sentence_fusion(torch.cat((hidden, sentence.expand(5, 8)), dim=1)).relu()
    torch.testing.assert_close(fused[0], expected)


def test_padding_has_no_influence() -> None:
    fusion = build()
    clips, words = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    clips_mask, words_mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2]), torch.tensor([[True] * 3] * 2)
    words_mask[1, 1:] = False
    fused = fusion(clips, clips_mask, words, words_mask)
    alone = fusion(clips[1:, :3], clips_mask[1:, :3], words[1:, :1], words_mask[1:, :1])
    torch.testing.assert_close(fused[1:, :3], alone)


def test_softmax_over_nothing_is_even() -> None:
    share = masked_softmax(torch.randn(2, 4), torch.tensor([[False] * 4, [True, False, False, False]]), dim=1)
    torch.testing.assert_close(share, torch.tensor([[0.25] * 4, [1.0, 0.0, 0.0, 0.0]]))
