# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable

import pytest

from mesm_plugin.datasets import GloVeText
from mesm_plugin.datasets.text.nltk_words import nltk_words


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("A person opens the door.", "a person opens the door ."),
        ("He opens it. Then he leaves", "he opens it . then he leaves"),
        ("She doesn't, she can't; it's Ann's", "she does n't , she ca n't ; it 's ann 's"),
        ('Remove the "core."', "remove the `` core . ''"),
        ("A well-lit room (about 1,000 cm) at 10:30!", "a well-lit room ( about 1,000 cm ) at 10:30 !"),
        ("wait... what?", "wait ... what ?"),
        ("Lunch in St. Mark's square.", "lunch in st. mark 's square ."),
        ("They cannot wanna leave", "they can not wan na leave"),
        ("", ""),
    ],
)
def test_words_as_those_of_nltk(sentence: str, words: str) -> None:
    assert nltk_words(sentence) == words.split()


def test_glove_text(write_text: Callable[[str, str], str]) -> None:
    path = write_text("glove.txt", "it 1 0\n's 2 0\n. 3 0\n")
    text = GloVeText(path, normalize=False, tokenisation="nltk")
    assert text.encode("It's.")["words"].tolist() == [[1, 0], [2, 0], [3, 0]]
    with pytest.raises(ValueError, match="tokenisation is 'moses', expected one of 'plain', 'nltk'"):
        GloVeText(path, tokenisation="moses")
