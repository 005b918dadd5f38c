# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import torch

from mesm_plugin.models import ConcatAligner

BATCH = {"pair_video": torch.tensor([0, 1, 1]), "pair_query": torch.tensor([0, 1, 0])}


def features() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    clips, words = torch.randn(2, 4, 8), torch.randn(2, 3, 8)
    words_mask = torch.tensor([[True, True, False], [True, True, True]])
    return clips, torch.randn(2, 4, 8), torch.ones(2, 4, dtype=torch.bool), words, words_mask


def test_clips_stay_and_words_follow() -> None:
    clips, position, clips_mask, words, words_mask = features()
    output = ConcatAligner(8)(clips, position, clips_mask, words, words_mask, BATCH)
    output.check(pairs=3, queries=2, clips=4, dims=8, name="ConcatAligner")
    assert torch.equal(output.clips, clips[[0, 1, 1]])
    assert torch.equal(output.context, words[[0, 1, 0]])
    assert torch.equal(output.context_mask, words_mask[[0, 1, 0]])
    assert output.context_position is None
    assert not list(ConcatAligner(8).parameters())


def test_words_can_have_positions() -> None:
    aligner = ConcatAligner(8, word_position={"max_words": 3, "dropout": 0.0})
    clips, position, clips_mask, words, words_mask = features()
    output = aligner(clips, position, clips_mask, words, words_mask, BATCH)
    output.check(pairs=3, queries=2, clips=4, dims=8, name="ConcatAligner")
    expected = torch.nn.functional.layer_norm(words + aligner.word_position.embedding.weight, (8,))
    torch.testing.assert_close(output.context_position, expected[[0, 1, 0]])
