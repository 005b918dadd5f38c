# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np

from mesm_plugin.datasets.text.words import STOP_WORDS, split_words, word_weights


def test_split_words() -> None:
    assert split_words("  A person's half-open Door, closes! \n") == [
        "a",
        "person",
        "s",
        "half",
        "open",
        "door",
        "closes",
    ]
    assert split_words("...") == []


def test_weights() -> None:
    words = ["person", "quickly", "opens", "the", "red", "door", "with", "her"]
    assert word_weights(words, "uniform").tolist() == [1] * 8
    assert word_weights(words, "content_words").tolist() == [2, 2, 2, 1, 2, 2, 1, 1]
    assert word_weights(words, "content_words").dtype == np.float32


def test_stop_words_are_words_as_they_are_split() -> None:
    assert all(split_words(word) == [word] for word in STOP_WORDS)
