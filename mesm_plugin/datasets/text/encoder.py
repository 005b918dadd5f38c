# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What a data set needs of a text encoder."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence

from torch import Tensor


class TextEncoder(ABC):
    """Turns a sentence into a sequence of word features."""

    @property
    @abstractmethod
    def num_classes(self) -> int | None:
        """Number of classes of `words_label`; None without a vocabulary."""

    @abstractmethod
    def encode(self, sentence: str, qid: Hashable | None = None) -> dict[str, Tensor]:
        """Features of the words of a sentence.

        Args:
            sentence: The query.
            qid: Its id in the data set; None for a new sentence.

        Returns:
            `words` (Lw, Dt) float32 with Lw >= 1; `words_weight` (Lw,) float32, the weight with which a word is drawn
            for masking; with a vocabulary also `words_label` (Lw,) int64, the class of each word, and `unknown_words`
            (Lw,) bool, True for words that have no class of their own.

        Raises:
            ValueError: The sentence cannot be encoded; the message names the query.
        """

    @abstractmethod
    def prepare(self, queries: Sequence[tuple[str, Hashable | None]]) -> dict[int, str]:
        """Loads what the given (sentence, qid) need, all at once.

        Returns:
            What is wrong with those that cannot be encoded, by their place in `queries`.
        """


def query_name(sentence: str, qid: Hashable | None) -> str:
    """Names a query in messages."""
    return f"sentence {sentence!r}" if qid is None else f"query {qid}, {sentence!r}"
