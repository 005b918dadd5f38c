# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Fusion of clips with the words that are like them, by a trilinear similarity."""

import torch
from torch import Tensor, nn


def masked_softmax(scores: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Softmax over the scores where mask (broadcast) is True; even where it nowhere is."""
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim)


class TrilinearFusion(nn.Module):
    """Puts beside each clip the words like it, the clips like those, and the whole sentence (as in VSLNet, TR-DETR).

    Args:
        dims: D.
        dropout: Dropout of clips and words where they are compared.
    """

    def __init__(self, dims: int, dropout: float) -> None:
        super().__init__()
        self.clip_weight = nn.Parameter(torch.empty(dims))
        self.word_weight = nn.Parameter(torch.empty(dims))
        self.product_weight = nn.Parameter(torch.empty(dims))
        self.fusion = nn.Linear(4 * dims, dims)
        self.sentence_weight = nn.Parameter(torch.empty(dims))
        self.sentence_fusion = nn.Linear(2 * dims, dims)
        self.dropout = nn.Dropout(dropout)
        # As Xavier's rule has it for a column of D weights; the products have as many inputs as outputs.
        for weight in (self.clip_weight, self.word_weight, self.sentence_weight):
            nn.init.uniform_(weight, -((6 / (dims + 1)) ** 0.5), (6 / (dims + 1)) ** 0.5)
        nn.init.uniform_(self.product_weight, -((3 / dims) ** 0.5), (3 / dims) ** 0.5)

    def forward(self, clips: Tensor, clips_mask: Tensor, words: Tensor, words_mask: Tensor) -> Tensor:
        """Fuses clips with words.

        Args:
            clips: (P, Lv, D).
            clips_mask: (P, Lv) bool, True = valid.
            words: (P, Lw, D).
            words_mask: (P, Lw) bool, True = valid.

        Returns:
            (P, Lv, D), not negative.
        """
        clip, word = self.dropout(clips), self.dropout(words)
        scores = (clip * self.product_weight) @ word.transpose(1, 2)
        scores = scores + (clip @ self.clip_weight)[:, :, None] + (word @ self.word_weight)[:, None]
        over_words = masked_softmax(scores, words_mask[:, None], dim=2)
        over_clips = masked_softmax(scores, clips_mask[:, :, None], dim=1)
        like_words = over_words @ words
        like_clips = over_words @ (over_clips.transpose(1, 2) @ clips)
        fused = self.fusion(torch.cat((clips, like_words, clips * like_words, clips * like_clips), dim=2))
        share = masked_softmax(words @ self.sentence_weight, words_mask, dim=1)
        sentence = (share[:, None] @ words).expand_as(fused)
        return self.sentence_fusion(torch.cat((fused, sentence), dim=2)).relu()
