# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""GloVe word vectors from a local file."""

from collections.abc import Set

import numpy as np

from mesm_plugin.datasets.files import require_file
from mesm_plugin.datasets.text.glove_pickle import GloVePickle
from mesm_plugin.datasets.text.plain_pickle import is_pickle
from mesm_plugin.datasets.text.vocabulary import Vocabulary
from mesm_plugin.datasets.text.word_vectors import WordVectorText
from mesm_plugin.registry import TRANSFORMS

_LARGEST = float(np.finfo(np.float32).max)
_OF_NUMBERS = b"0123456789+-.eE \t\r\n"


@TRANSFORMS.register_module()
class GloVeText(WordVectorText):
    """Vectors from a file in GloVe's text format, a word and its numbers per line, or from the released glove.pkl.

    A text file is read through once for all words of a data set (a gigabyte in seconds) and only their vectors are
    kept; a new sentence with further words reads it once more. Every line is checked to have as many numbers as the
    first, and to have nothing but numbers after the word.

    Args:
        file: Such as glove.6B.300d.txt, or glove.pkl, of which nothing is executed: see `GloVePickle`.
        vocabulary: `GloVe_tokenized_count.txt` of the data set, or glove.pkl for the counts in it; None if there is no
            masked language modelling.
        vocabulary_size: So many of its words, from the first line on, have a class of their own.
        max_words: Further words of a sentence are cut off.
        weighting: "uniform", the paper's, or "content_words", close to the released code: see `words.word_weights`.
        normalize: Divides every vector by its L2 norm.
        tokenisation: "plain", without punctuation, or "nltk", closer to the released code: see docs/text.md.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: A line of a file is broken; the message names it.
    """

    def __init__(
        self,
        file: str,
        vocabulary: str | None = None,
        vocabulary_size: int = 1111,
        max_words: int = 16,
        weighting: str = "uniform",
        normalize: bool = True,
        tokenisation: str = "plain",
    ) -> None:
        classes = None if vocabulary is None else Vocabulary.from_file(vocabulary, vocabulary_size)
        super().__init__(classes, max_words, weighting, normalize, tokenisation)
        self.path = require_file(file, "GloVe file")

    def __str__(self) -> str:
        return str(self.path)

    def find(self, words: Set[str]) -> dict[str, np.ndarray]:
        if is_pickle(self.path):
            return GloVePickle(self.path).find(words)
        wanted = {word.encode(): word for word in words}
        found: dict[str, np.ndarray] = {}
        dim = 0
        with open(self.path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                line = line.rstrip()
                dim = dim or max(0, len(line.split()) - 1)
                word, _, values = line.partition(b" ")
                looks_right = word and values.count(b" ") == dim - 1 and not values.translate(None, _OF_NUMBERS)
                if looks_right and word not in wanted:
                    continue
                if problem := _problem(line, dim):
                    raise ValueError(f"{self.path}:{number}: {problem}")
                word, *numbers = line.split()
                if word in wanted and len(numbers) == dim:
                    found[wanted[word]] = np.array(numbers, dtype=np.float32)
        if dim == 0:
            raise ValueError(f"{self.path} is empty, expected a word and its numbers per line")
        return found


def _is_number(text: bytes) -> bool:
    try:
        # Python reads "1_000", NumPy does not.
        return b"_" not in text and abs(float(text)) <= _LARGEST
    except ValueError:
        return False


def _problem(line: bytes, dim: int) -> str:
    """What is wrong with a line that should hold a word and `dim` numbers; empty if nothing is.

    A few words of the large GloVe files contain blanks (". . ."), so there may be more columns.
    """
    word, *values = line.split() or [b""]
    shown = word.decode(errors="replace")[:40]
    if dim == 0:
        return f"{shown!r} has no numbers after the word"
    extra = len(values) - dim
    if extra < 0 or any(map(_is_number, values[:extra])):
        hint = "; a header line has to be removed" if dim == 1 else ""
        return f"{len(values)} numbers after the word {shown!r}, but the first line of the file has {dim}{hint}"
    wrong = next((value for value in values[extra:] if not _is_number(value)), None)
    if wrong is None:
        return ""
    return f"{wrong.decode(errors='replace')[:40]!r}, after the word {shown!r}, is not a finite number in float32"
