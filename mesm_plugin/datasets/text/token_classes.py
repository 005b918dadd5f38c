# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Classes of CLIP's tokens for masked language modelling."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mesm_plugin.datasets.text.vocabulary import Vocabulary


class TokenClasses:
    """The most frequent token ids have a class each; then come that of all others, of the start and of the end of text.

    These are the released code's classes.

    Args:
        file: `CLIP_tokenized_count.txt` of a data set.
        size: So many of its token ids, from the first line on, have a class of their own.
        start: Id of CLIP's start of text.
        end: Id of CLIP's end of text.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is broken or holds words.
    """

    def __init__(self, file: str, size: int, start: int, end: int) -> None:
        self._vocabulary = Vocabulary.from_file(file, size)
        if not self._vocabulary.holds_ids:
            raise ValueError(f"{file} holds words, expected token ids: lines 'id count'")
        self._special = {start: size + 1, end: size + 2}
        self.count = size + 3

    def labels(self, ids: Sequence[int]) -> dict[str, Tensor]:
        """`words_label` and `unknown_words` of token ids, as `TextEncoder.encode` returns them."""
        labels = torch.tensor([self._special.get(token, self._vocabulary.label(token)) for token in ids])
        return {"words_label": labels, "unknown_words": labels == self._vocabulary.size}
