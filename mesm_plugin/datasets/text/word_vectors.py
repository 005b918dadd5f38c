# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Text encoders that look every word up in a table."""

from abc import abstractmethod
from collections.abc import Hashable, Sequence, Set

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor

from mesm_plugin.datasets.arrays import l2_normalize
from mesm_plugin.datasets.text.encoder import TextEncoder, query_name
from mesm_plugin.datasets.text.nltk_words import nltk_words
from mesm_plugin.datasets.text.vocabulary import Vocabulary
from mesm_plugin.datasets.text.words import WEIGHTINGS, split_words, word_weights

TOKENISATIONS = {"plain": split_words, "nltk": nltk_words}


class WordVectorText(TextEncoder):
    """One vector per word, looked up in a table.

    All words that are not in the table share one pseudo-random vector, the same in every process and run. The released
    code draws theirs anew at each start; zeros would leave the word out.

    Args:
        vocabulary: Classes of the words; None if there is no masked language modelling.
        max_words: Further words of a sentence are cut off.
        weighting: "uniform" or "content_words": see `words.word_weights`.
        normalize: Divides every vector by its L2 norm.
        tokenisation: "plain", by `split_words`, or "nltk", by `nltk_words`, which keeps punctuation as words.
    """

    def __init__(
        self,
        vocabulary: Vocabulary | None,
        max_words: int,
        weighting: str,
        normalize: bool,
        tokenisation: str = "plain",
    ) -> None:
        if max_words < 1:
            raise ValueError(f"max_words is {max_words}, expected at least 1")
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting is {weighting!r}, expected one of {', '.join(map(repr, WEIGHTINGS))}")
        if tokenisation not in TOKENISATIONS:
            raise ValueError(f"tokenisation is {tokenisation!r}, expected one of {', '.join(map(repr, TOKENISATIONS))}")
        if vocabulary is not None and vocabulary.holds_ids:
            raise ValueError("the vocabulary holds token ids, expected words: lines 'word id count'")
        self.vocabulary = vocabulary
        self.max_words = max_words
        self.weighting = weighting
        self.normalize = normalize
        self._tokenize = TOKENISATIONS[tokenisation]
        self._known: dict[str, np.ndarray] = {}
        self._absent: set[str] = set()
        self._unknown_vector: np.ndarray | None = None

    @abstractmethod
    def __str__(self) -> str:
        """Where the vectors come from, for messages."""

    @abstractmethod
    def find(self, words: Set[str]) -> dict[str, np.ndarray]:
        """Vectors (Dt,) float32 of those of `words` that the table has."""

    @property
    def num_classes(self) -> int | None:
        return None if self.vocabulary is None else self.vocabulary.size + 1

    def prepare(self, queries: Sequence[tuple[str, Hashable | None]]) -> dict[int, str]:
        split = [self._tokenize(sentence)[: self.max_words] for sentence, _ in queries]
        wanted = {word for words in split for word in words}
        self._look_up(wanted)
        problems = {}
        for place, (words, (sentence, qid)) in enumerate(zip(split, queries, strict=True)):
            try:
                self._require_known_word(words, sentence, qid)
            except ValueError as error:
                problems[place] = str(error)
        absent = sorted(wanted & self._absent)
        if absent:
            print_log(
                f"{len(absent)} of {len(wanted)} words are not in {self} and share one vector: "
                + ", ".join(absent[:10])
                + (", ..." if len(absent) > 10 else ""),
                logger="current",
            )
        return problems

    def encode(self, sentence: str, qid: Hashable | None = None) -> dict[str, Tensor]:
        words = self._tokenize(sentence)[: self.max_words]
        self._look_up(set(words))
        self._require_known_word(words, sentence, qid)
        assert self._unknown_vector is not None
        vectors = np.stack([self._known.get(word, self._unknown_vector) for word in words])
        encoded = {
            "words": torch.from_numpy(l2_normalize(vectors) if self.normalize else vectors),
            "words_weight": torch.from_numpy(word_weights(words, self.weighting)),
        }
        if self.vocabulary is not None:
            labels = torch.tensor([self.vocabulary.label(word) for word in words])
            encoded["words_label"] = labels
            encoded["unknown_words"] = labels == self.vocabulary.size
        return encoded

    def _look_up(self, words: set[str]) -> None:
        wanted = words - self._known.keys() - self._absent
        if not wanted:
            return
        found = self.find(wanted)
        self._known |= found
        self._absent |= wanted - found.keys()
        if self._unknown_vector is None and self._known:
            dim = len(next(iter(self._known.values())))
            # Raw uniform numbers: NumPy guarantees their stream across versions.
            self._unknown_vector = np.random.Generator(np.random.PCG64(0)).random(dim, dtype=np.float32) * 2 - 1

    def _require_known_word(self, words: list[str], sentence: str, qid: Hashable | None) -> None:
        if not words:
            raise ValueError(f"{query_name(sentence, qid)}: the sentence has no words")
        if self._absent.issuperset(words):
            raise ValueError(
                f"{query_name(sentence, qid)}: none of its words ({', '.join(words)}) is in {self}; "
                "is the sentence in the language of the table?"
            )
