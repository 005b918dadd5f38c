# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Word vectors of the synthetic data set."""

from collections.abc import Set

import numpy as np

from mesm_plugin.datasets.synthetic_script import WORDS
from mesm_plugin.datasets.text.vocabulary import Vocabulary
from mesm_plugin.datasets.text.word_vectors import WordVectorText
from mesm_plugin.registry import TRANSFORMS

_WORD_VECTORS = 100


def synthetic_word_vectors(seed: int, dim: int) -> dict[str, np.ndarray]:
    """A random unit vector (Dt,) float32 for every word of the synthetic grammar."""
    vectors = np.random.default_rng([seed, _WORD_VECTORS]).standard_normal((len(WORDS), dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return dict(zip(WORDS, vectors.astype(np.float32), strict=True))


@TRANSFORMS.register_module()
class SyntheticText(WordVectorText):
    """Encodes sentences made of the words of the synthetic data set; no file needed.

    Each word of the grammar has a class of its own.

    Args:
        seed: That of the data set.
        dim: Dt, width of a word vector.
        max_words: Further words of a sentence are cut off.
        weighting: See `words.word_weights`.
    """

    def __init__(self, seed: int = 0, dim: int = 64, max_words: int = 16, weighting: str = "uniform") -> None:
        super().__init__(Vocabulary(WORDS, len(WORDS)), max_words, weighting, normalize=True)
        self._table = synthetic_word_vectors(seed, dim)

    def __str__(self) -> str:
        return "the vocabulary of the synthetic data set"

    def find(self, words: Set[str]) -> dict[str, np.ndarray]:
        return {word: self._table[word] for word in words if word in self._table}
