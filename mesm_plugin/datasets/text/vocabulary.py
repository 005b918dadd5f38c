# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Classes of words for masked language modelling."""

from collections.abc import Sequence
from pathlib import Path

from mesm_plugin.datasets.files import read_lines, require_file
from mesm_plugin.datasets.text.glove_pickle import GloVePickle
from mesm_plugin.datasets.text.plain_pickle import is_pickle


class Vocabulary:
    """The most frequent words (or token ids) of a data set, one class each; all others share one more class.

    The class of a word is its rank, as in the released code.

    Args:
        entries: Words, or ids of a tokeniser, most frequent first.
        size: How many of them have a class of their own; the class `size` is that of all others.

    Raises:
        ValueError: `size` is not positive, or an entry occurs twice.
    """

    def __init__(self, entries: Sequence[str | int], size: int) -> None:
        if size < 1:
            raise ValueError(f"the size of the vocabulary is {size}, expected at least 1")
        self.size = size
        self.holds_ids = isinstance(entries[0], int)
        self._labels: dict[str | int, int] = {}
        for rank, entry in enumerate(entries):
            if entry in self._labels:
                raise ValueError(f"{entry!r} occurs twice in the vocabulary, at ranks {self._labels[entry]} and {rank}")
            self._labels[entry] = min(rank, size)

    @classmethod
    def from_file(cls, file: str | Path, size: int) -> "Vocabulary":
        """Reads a published count file, most frequent first.

        Args:
            file: `GloVe_tokenized_count.txt` (word, id, count per line), `CLIP_tokenized_count.txt` (id, count) or the
                released `glove.pkl`.
            size: See the class.

        Raises:
            FileNotFoundError: The file does not exist.
            ValueError: A line has another form; the message names file and line.
        """
        path = require_file(file, "vocabulary file")
        if is_pickle(path):
            return cls(GloVePickle(path).most_common(), size)
        entries: list[str | int] = []
        columns = 0
        for number, line in enumerate(read_lines(path), 1):
            parts = line.split()
            columns = columns or len(parts)
            numbers = parts if columns == 2 else parts[1:]
            if columns not in (2, 3) or len(parts) != columns or not all(part.isdecimal() for part in numbers):
                expected = {2: "'id count'", 3: "'word id count'"}.get(columns, "'word id count' or 'id count'")
                raise ValueError(f"{path}:{number}: {line.rstrip()[:80]!r} is not of the form {expected}")
            entries.append(int(parts[0]) if columns == 2 else parts[0])
        if not entries:
            raise ValueError(f"{path} is empty, expected lines 'word id count' or 'id count'")
        try:
            return cls(entries, size)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def label(self, entry: str | int) -> int:
        """Class of a word or token id; `size` if it is none of the most frequent ones."""
        return self._labels.get(entry, self.size)
