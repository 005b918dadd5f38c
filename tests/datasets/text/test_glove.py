# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mesm_plugin.datasets import GloVeText
from mesm_plugin.registry import TRANSFORMS

WriteText = Callable[[str, str], str]
GLOVE = "the 0.1 -0.2 3e-1\nperson 3 0 4\ndoor 1.0 2.0 2.0\n"


def test_built_by_bare_name(write_text: WriteText) -> None:
    text = TRANSFORMS.build(
        {
            "type": "GloVeText",
            "file": write_text("glove.txt", GLOVE),
            "vocabulary": write_text("count.txt", "person 3 9\nthe 4 8\ndoor 2 1\n"),
            "vocabulary_size": 2,
        }
    )
    encoded = text.encode("Person: the door!")
    norm = 0.14**0.5
    np.testing.assert_allclose(
        encoded["words"], [[0.6, 0, 0.8], [0.1 / norm, -0.2 / norm, 0.3 / norm], [1 / 3, 2 / 3, 2 / 3]], rtol=1e-6
    )
    assert encoded["words"].dtype == torch.float32
    assert encoded["words_label"].tolist() == [0, 1, 2]
    assert encoded["unknown_words"].tolist() == [False, False, True]
    assert text.num_classes == 3


def test_without_normalization(write_text: WriteText) -> None:
    text = GloVeText(write_text("glove.txt", GLOVE), normalize=False)
    assert text.encode("person")["words"].tolist() == [[3, 0, 4]]


def test_the_file_is_read_only_for_new_words(write_text: WriteText) -> None:
    path = Path(write_text("glove.txt", GLOVE))
    text = GloVeText(str(path))
    text.prepare([("the person", 0)])
    path.unlink()
    assert text.encode("person the").keys() == {"words", "words_weight"}
    with pytest.raises(FileNotFoundError):
        text.encode("person the door")


def test_pickled_copy_keeps_its_words(write_text: WriteText) -> None:
    path = Path(write_text("glove.txt", GLOVE))
    text = GloVeText(str(path), normalize=False)
    text.prepare([("person", 0)])
    path.unlink()
    assert pickle.loads(pickle.dumps(text)).encode("person")["words"].tolist() == [[3, 0, 4]]


@pytest.mark.parametrize(
    "content",
    [
        "person 3 0 4 \r\ndoor 1 2 2\r\n",
        "person\t3\t0\t4\ndoor  1  2 2",
        "person 3 0 4\n. . . 1 2 2\nat name@domain.com 1 1 1\ndoor 1 2 2\n",
        "person 3 0 4\ncaf\u00e9 1 1 1\n1e5 1 1 1\ndoor 1 2 2\n",
    ],
    ids=["windows", "tabs", "words with blanks", "odd words"],
)
def test_tolerated_forms(write_text: WriteText, content: str) -> None:
    text = GloVeText(write_text("glove.txt", content), normalize=False)
    assert text.encode("door person")["words"].tolist() == [[1, 2, 2], [3, 0, 4]]


@pytest.mark.parametrize("asked", ["person", "door"])
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("door 1.0 2.0", "2 numbers after the word 'door', but the first line of the file has 3"),
        ("door", "0 numbers after the word 'door', but the first line of the file has 3"),
        ("", "0 numbers after the word '', but the first line"),
        ("door 1.0 2.0 2.0 1.5", "4 numbers after the word 'door', but the first line of the file has 3"),
        ("door 1.0 two 2.0", "'two', after the word 'door', is not a finite number"),
        ("door 1.0 nan 2.0", "'nan', after the word 'door', is not a finite number"),
        ("door 1.0 inf 2.0", "'inf', after the word 'door', is not a finite number"),
        (" 1.0 2.0 2.0", "2 numbers after the word '1.0', but the first line of the file has 3"),
        ("door 1.0 2.0 2.0person 1 1 1", "is not a finite number|numbers after the word"),
    ],
)
def test_broken_line(write_text: WriteText, line: str, problem: str, asked: str) -> None:
    """Whether the word of the line is asked for or not."""
    path = write_text("glove.txt", f"the 1 2 3\n{line}\nperson 3 0 4\n")
    with pytest.raises(ValueError, match=rf"glove\.txt:2: .*({problem})"):
        GloVeText(path).encode(f"{asked} the person")


def test_broken_number_of_a_word_that_is_asked_for(write_text: WriteText) -> None:
    path = write_text("glove.txt", "the 1 2 3\ndoor 1.0 2.0.1 2.0\n")
    with pytest.raises(ValueError, match=r"glove\.txt:2: '2\.0\.1', after the word 'door', is not a finite number"):
        GloVeText(path).encode("door")
    with pytest.raises(ValueError, match=r"glove\.txt:2: '1e999', after the word 'door', is not a finite number"):
        GloVeText(write_text("glove.txt", "the 1 2 3\ndoor 1.0 1e999 2.0\n")).encode("door")


@pytest.mark.parametrize("number", ["\u0663", "\uff12", "1_0", "1e39", "2\xa0"])
def test_numbers_that_only_some_readers_know(write_text: WriteText, number: str) -> None:
    path = write_text("glove.txt", f"the 1 2 3\ndoor 1.0 {number} 2.0\n")
    with pytest.raises(ValueError, match=r"glove\.txt:2: .*, after the word 'door', is not a finite number in float32"):
        GloVeText(path).encode("door")


def test_blank_first_line(write_text: WriteText) -> None:
    with pytest.raises(ValueError, match=r"glove\.txt:1: '' has no numbers after the word"):
        GloVeText(write_text("glove.txt", "\nthe 1 2 3\n")).encode("the")


def test_header_and_broken_first_line(write_text: WriteText) -> None:
    message = (
        r"glove\.txt:2: 3 numbers after the word 'the', but the first line of the file has 1; a header line has to"
    )
    with pytest.raises(ValueError, match=message):
        GloVeText(write_text("glove.txt", "2 3\n" + GLOVE)).encode("the")
    with pytest.raises(ValueError, match=r"glove\.txt:1: 'word' has no numbers after the word"):
        GloVeText(write_text("glove.txt", "word\n" + GLOVE)).encode("the")


def test_empty_file(write_text: WriteText) -> None:
    with pytest.raises(ValueError, match=r"glove\.txt is empty, expected a word and its numbers per line"):
        GloVeText(write_text("glove.txt", "")).encode("the")


def test_missing_files(tmp_path: Path, write_text: WriteText) -> None:
    with pytest.raises(FileNotFoundError, match=r"GloVe file not found: .*glove\.6B\.300d\.txt"):
        GloVeText(str(tmp_path / "glove.6B.300d.txt"))
    with pytest.raises(FileNotFoundError, match=r"vocabulary file not found: .*count\.txt"):
        GloVeText(write_text("glove.txt", GLOVE), vocabulary=str(tmp_path / "count.txt"))


def test_vocabulary_of_token_ids(write_text: WriteText) -> None:
    with pytest.raises(ValueError, match="the vocabulary holds token ids, expected words"):
        GloVeText(write_text("glove.txt", GLOVE), vocabulary=write_text("count.txt", "269 16139\n"))


def test_sentence_without_a_known_word_names_query_and_file(write_text: WriteText) -> None:
    text = GloVeText(write_text("glove.txt", GLOVE))
    problems = text.prepare([("the door", 4), ("une porte", 5)])
    assert list(problems) == [1]
    assert re.match(r"query 5, 'une porte': none of its words \(une, porte\) is in .*glove\.txt", problems[1])
