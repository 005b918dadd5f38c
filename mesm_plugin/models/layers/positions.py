# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Position encodings of clips, anchors and words."""

import math

import torch
from torch import Tensor, nn

from mesm_plugin.kernels import Dropout


def sine_encoding(values: Tensor, dims: int) -> Tensor:
    """Encodes angles by sines and cosines of falling frequency, interleaved (as in DETR).

    Args:
        values: (...) angles in radians.
        dims: Number of channels, even.

    Returns:
        (..., dims).
    """
    last = (dims - 2) / dims
    angles = values[..., None] * torch.logspace(0, -last, dims // 2, base=10000.0, device=values.device)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


def clip_position(mask: Tensor, dims: int) -> Tensor:
    """Sine encoding of a clip's place among the valid clips, scaled to one turn a video (as in Moment-DETR).

    Args:
        mask: (V, Lv) bool, True = valid.
        dims: D.

    Returns:
        (V, Lv, D) float32. Padded clips repeat the last valid one's.
    """
    place = mask.cumsum(dim=1, dtype=torch.float32)
    return sine_encoding(place / (place[:, -1:] + 1e-6) * 2 * math.pi, dims)


def anchor_position(anchors: Tensor, dims: int) -> Tensor:
    """Sine encoding of anchors: half of the channels for the centre, half for the width (as in QD-DETR).

    Args:
        anchors: (..., 2) normalised centre and width.
        dims: D, divisible by 4.

    Returns:
        (..., D).
    """
    return sine_encoding(anchors * 2 * math.pi, dims // 2).flatten(-2)


class LearnedWordPosition(nn.Module):
    """LayerNorm of words plus a learned embedding of their place (option `use_txt_pos` of the released code).

    Args:
        dims: D.
        max_words: Longest sentence, the generated token included.
        dropout: Dropout of the result.
    """

    def __init__(self, dims: int, max_words: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.embedding = nn.Embedding(max_words, dims)
        self.norm = nn.LayerNorm(dims)
        self.dropout = Dropout(dropout)

    def forward(self, words: Tensor) -> Tensor:
        """Returns the positions (Q, Lw, D) of words (Q, Lw, D).

        Raises:
            ValueError: The sentences are longer than `max_words`.
        """
        if words.shape[1] > self.embedding.num_embeddings:
            raise ValueError(
                f"sentences of {words.shape[1]} words (generated token included), but max_words of the word position "
                f"is {self.embedding.num_embeddings}"
            )
        return self.dropout(self.norm(words + self.embedding.weight[: words.shape[1]]))
