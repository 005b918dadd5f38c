# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from pathlib import Path

import pytest

from mesm_plugin.datasets import Vocabulary

WriteText = Callable[[str, str], str]


def test_class_of_a_word_is_its_line(write_text: WriteText) -> None:
    vocabulary = Vocabulary.from_file(write_text("count.txt", "person 772 16\na 6 12\nthe 1098 8\ndoor 314 1\n"), 3)
    assert [vocabulary.label(word) for word in ("person", "a", "the", "door", "zebra")] == [0, 1, 2, 3, 3]
    assert (vocabulary.size, vocabulary.holds_ids) == (3, False)


def test_token_ids(write_text: WriteText) -> None:
    vocabulary = Vocabulary.from_file(write_text("count.txt", "269 16139\n2533 16074\n320 12667"), 2)
    assert [vocabulary.label(token) for token in (269, 2533, 320, 5)] == [0, 1, 2, 2]
    assert vocabulary.holds_ids


def test_a_size_beyond_the_file_leaves_classes_unused(write_text: WriteText) -> None:
    vocabulary = Vocabulary.from_file(write_text("count.txt", "person 2 5\n"), 10)
    assert [vocabulary.label(word) for word in ("person", "zebra")] == [0, 10]


def test_published_files(shared: Path) -> None:
    folder = shared / "data" / "charades"
    words = Vocabulary.from_file(folder / "GloVe_tokenized_count.txt", 1111)
    assert [words.label(word) for word in ("person", "a", "opens", "sets")] == [0, 1, 9, 1111]
    tokens = Vocabulary.from_file(folder / "CLIP_tokenized_count.txt", 1111)
    assert [tokens.label(token) for token in (269, 2533, 320, 49407)] == [0, 1, 2, 1111]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("person 2 5\na 6\n", r"count\.txt:2: 'a 6' is not of the form 'word id count'"),
        ("person 2 five\n", r"count\.txt:1: 'person 2 five' is not of the form 'word id count'"),
        ("5 16\nperson 2\n", r"count\.txt:2: 'person 2' is not of the form 'id count'"),
        ("person\n", r"count\.txt:1: 'person' is not of the form 'word id count' or 'id count'"),
        ("person 2 5\n\na 6 1\n", r"count\.txt:2: '' is not of the form"),
        ("person 2 5\na 6 3\nperson 2 1\n", r"count\.txt: 'person' occurs twice in the vocabulary, at ranks 0 and 2"),
        ("", r"count\.txt is empty, expected lines 'word id count' or 'id count'"),
    ],
)
def test_bad_files(write_text: WriteText, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vocabulary.from_file(write_text("count.txt", content), 10)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"vocabulary file not found: .*count\.txt"):
        Vocabulary.from_file(tmp_path / "count.txt", 10)


def test_size_is_checked() -> None:
    with pytest.raises(ValueError, match="the size of the vocabulary is 0, expected at least 1"):
        Vocabulary(["a"], 0)
