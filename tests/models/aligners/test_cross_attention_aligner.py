# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from mesm_plugin.models import CrossAttentionAligner

SIZES = {"dims": 8, "heads": 2, "ffn_dims": 12, "dropout": 0.0}
BATCH = {"pair_video": torch.tensor([0, 1, 1]), "pair_query": torch.tensor([0, 1, 0])}


def align(aligner: CrossAttentionAligner, words: torch.Tensor, words_mask: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(1)
    clips, position = torch.randn(2, 4, 8), torch.randn(2, 4, 8)
    output = aligner(clips, position, torch.ones(2, 4, dtype=torch.bool), words, words_mask, BATCH)
    output.check(pairs=3, queries=2, clips=4, dims=8, name="CrossAttentionAligner")
    assert output.context is None
    return output.clips


def test_padded_words_have_no_influence_and_pairs_have_their_own() -> None:
    torch.manual_seed(0)
    aligner = CrossAttentionAligner(**SIZES)
    words, mask = torch.randn(2, 3, 8), torch.tensor([[True, True, False], [True, True, True]])
    aligned = align(aligner, words, mask)
    changed = words.clone()
    changed[0, 2] = 100.0
    torch.testing.assert_close(align(aligner, changed, mask), aligned)
    changed[1] += 1.0
    difference = (align(aligner, changed, mask) - aligned).abs().amax(dim=(1, 2))
    assert difference[1] > 1e-3
    assert difference[[0, 2]].max() < 1e-6


@pytest.mark.parametrize("max_words", [None, 3])
def test_order_of_words_counts_only_with_positions(max_words: int | None) -> None:
    torch.manual_seed(0)
    position = None if max_words is None else {"max_words": max_words, "dropout": 0.0}
    aligner = CrossAttentionAligner(**SIZES, word_position=position)
    words, mask = torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool)
    change = (align(aligner, words.flip(1), mask) - align(aligner, words, mask)).abs().max()
    assert (change > 1e-3) == (max_words is not None)
