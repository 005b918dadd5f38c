# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import logging
import re
from collections.abc import Set

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger

from mesm_plugin.datasets import Vocabulary
from mesm_plugin.datasets.text.word_vectors import WordVectorText

TABLE = {"person": [3.0, 4.0], "opens": [0.0, 2.0], "door": [5.0, 0.0], "nil": [0.0, 0.0]}


class TableText(WordVectorText):
    """Looks words up in TABLE and remembers what was asked for."""

    def __init__(
        self,
        vocabulary: Vocabulary | None = None,
        max_words: int = 16,
        weighting: str = "uniform",
        normalize: bool = True,
    ) -> None:
        super().__init__(vocabulary, max_words, weighting, normalize)
        self.asked: list[Set[str]] = []

    def __str__(self) -> str:
        return "the table"

    def find(self, words: Set[str]) -> dict[str, np.ndarray]:
        self.asked.append(words)
        return {word: np.array(TABLE[word], dtype=np.float32) for word in words if word in TABLE}


def test_words_are_looked_up_and_normalized() -> None:
    encoded = TableText().encode("Person opens: door!")
    assert encoded.keys() == {"words", "words_weight"}
    assert encoded["words"].dtype == torch.float32
    np.testing.assert_allclose(encoded["words"], [[0.6, 0.8], [0, 1], [1, 0]], rtol=1e-6)
    assert encoded["words_weight"].tolist() == [1, 1, 1]


def test_raw_vectors() -> None:
    assert TableText(normalize=False).encode("person opens nil")["words"].tolist() == [[3, 4], [0, 2], [0, 0]]


def test_classes() -> None:
    text = TableText(Vocabulary(["person", "the", "door"], 2))
    encoded = text.encode("the person opens the door")
    assert encoded["words_label"].dtype == torch.int64
    assert encoded["words_label"].tolist() == [1, 0, 2, 1, 2]
    assert encoded["unknown_words"].tolist() == [False, False, True, False, True]
    assert text.num_classes == 3
    assert TableText().num_classes is None


def test_words_outside_the_table_share_one_vector_that_never_changes() -> None:
    first = TableText().encode("zebra opens gizmo")["words"]
    assert torch.equal(first[0], first[2])
    assert first[0].norm().item() == pytest.approx(1)
    assert torch.equal(TableText().encode("door gizmo")["words"][1], first[0])
    assert TableText(normalize=False).encode("door gizmo")["words"][1].tolist() == pytest.approx(
        [0.701248, 0.273923], abs=1e-6
    )


def test_further_words_are_cut_off() -> None:
    encoded = TableText(Vocabulary(["person"], 1), max_words=2).encode("person opens door")
    assert {name: len(value) for name, value in encoded.items()} == dict.fromkeys(encoded, 2)


def test_content_words_weigh_two() -> None:
    assert TableText(weighting="content_words").encode("the person opens a door")["words_weight"].tolist() == [
        1,
        2,
        2,
        1,
        2,
    ]


def test_all_words_are_asked_for_at_once_and_once() -> None:
    text = TableText()
    text.prepare([("person opens", 0), ("opens zebra", 1)])
    text.encode("zebra opens person")
    text.encode("door")
    text.encode("door person")
    assert text.asked == [{"person", "opens", "zebra"}, {"door"}]


def test_missing_words_are_logged() -> None:
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    TableText().prepare([("person sees zebra", 0), ("person opens", 1)])
    TableText().prepare([("person opens", 1)])
    logger.removeHandler(handler)
    assert messages == ["2 of 4 words are not in the table and share one vector: sees, zebra"]


def test_sentence_without_a_known_word() -> None:
    message = r"query 17, 'a zebra': none of its words \(a, zebra\) is in the table"
    with pytest.raises(ValueError, match=message):
        TableText().encode("a zebra", 17)
    problems = TableText().prepare([("person opens", 16), ("a zebra", 17)])
    assert list(problems) == [1]
    assert re.search(message, problems[1])
    with pytest.raises(ValueError, match="sentence 'a zebra': none of its words"):
        TableText().encode("a zebra")


@pytest.mark.parametrize("sentence", ["", "   ", "?!"])
def test_sentence_without_words(sentence: str) -> None:
    with pytest.raises(ValueError, match="query 3, '.*': the sentence has no words"):
        TableText().encode(sentence, 3)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="max_words is 0, expected at least 1"):
        TableText(max_words=0)
    with pytest.raises(ValueError, match="weighting is 'nouns', expected one of 'uniform', 'content_words'"):
        TableText(weighting="nouns")
    with pytest.raises(ValueError, match="the vocabulary holds token ids, expected words"):
        TableText(Vocabulary([5, 6], 2))
