# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from mesm_plugin.datasets import SyntheticText
from mesm_plugin.datasets.synthetic_script import WORDS
from mesm_plugin.datasets.text.synthetic_text import synthetic_word_vectors
from mesm_plugin.datasets.text.words import split_words
from mesm_plugin.registry import TRANSFORMS


def test_encodes_new_sentences_of_its_words() -> None:
    text = TRANSFORMS.build({"type": "SyntheticText", "dim": 16})
    encoded = text.encode("The girl opens a red door!")
    assert encoded["words"].shape == (6, 16)
    table = synthetic_word_vectors(0, 16)
    np.testing.assert_allclose(encoded["words"][1], table["girl"], rtol=1e-6)
    assert encoded["words_label"].tolist() == [WORDS.index(w) for w in split_words("the girl opens a red door")]
    assert not encoded["unknown_words"].any()
    assert text.num_classes == len(WORDS) + 1 == 74


def test_words_outside_the_grammar_have_the_last_class() -> None:
    encoded = SyntheticText().encode("the zebra opens")
    assert encoded["words_label"][1] == 73
    assert encoded["unknown_words"].tolist() == [False, True, False]


def test_sentence_without_a_known_word() -> None:
    with pytest.raises(ValueError, match=r"none of its words \(zebra\) is in the vocabulary of the synthetic data set"):
        SyntheticText().encode("zebra")


def test_vectors_are_unit_vectors_of_the_seed() -> None:
    vectors = synthetic_word_vectors(0, 64)
    assert tuple(vectors) == WORDS
    np.testing.assert_allclose([np.linalg.norm(vector) for vector in vectors.values()], 1, rtol=1e-6)
    again, other = SyntheticText(seed=0), SyntheticText(seed=1)
    assert torch.equal(again.encode("door")["words"], SyntheticText().encode("door")["words"])
    assert not torch.equal(again.encode("door")["words"], other.encode("door")["words"])
