# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The file glove.pkl of the released code: word vectors and word counts of a data set."""

from collections.abc import Set
from pathlib import Path
from typing import Any

import numpy as np

from mesm_plugin.datasets.files import shown
from mesm_plugin.datasets.text.plain_pickle import PlainArray, described, read_plain_pickle

_MAX_WIDTH = 4096


class GloVePickle:
    """A dict with `w2id` (word -> id; also called `wtoi`), `id2vec` (id -> vector) and `counter` (word -> count).

    `id2vec` is a dict or list of vectors or an array of them, one a row; a vector is an array or a list of numbers.
    Nothing in the file is executed: see `read_plain_pickle`.

    Args:
        path: Such as glove.pkl.

    Raises:
        ValueError: It is not such a file; the message names it.
    """

    def __init__(self, path: Path) -> None:
        content = read_plain_pickle(path)
        if type(content) is not dict:
            raise ValueError(f"{path} holds a {type(content).__name__}, expected a dict with w2id, id2vec and counter")
        self.path = path
        self._content = content

    def find(self, words: Set[str]) -> dict[str, np.ndarray]:
        """Vectors (Dt,) float32 of those of `words` that the file has.

        Raises:
            ValueError: The vector of a word is missing, is not finite or has another width than others.
        """
        ids = self._entry("w2id", "wtoi")
        if type(ids) is not dict or not ids:
            raise ValueError(f"{self.path}: w2id is {described(ids)}, expected a dict of words and their ids")
        table = _unwrap(self._entry("id2vec"))
        found = {word: self._vector(table, word, ids[word]) for word in sorted(words & ids.keys())}
        for word, vector in found.items():
            first, of_first = next(iter(found.items()))
            if len(vector) != len(of_first):
                raise ValueError(
                    f"{self.path}: {word!r} has a vector of {len(vector)} numbers, but {first!r} of {len(of_first)}"
                )
        return found

    def most_common(self) -> list[str]:
        """The words of `counter`, most frequent first; ties as in the file.

        Raises:
            ValueError: There is no such dict of words and counts.
        """
        counts = self._entry("counter")
        if type(counts) is not dict or not counts:
            raise ValueError(f"{self.path}: counter is {described(counts)}, expected a dict of words and counts")
        for word, count in counts.items():
            if not isinstance(word, str) or type(count) is not int:
                raise ValueError(
                    f"{self.path}: counter has {described(word)}: {described(count)}, expected a word and a count"
                )
        return sorted(counts, key=lambda word: -counts[word])

    def _entry(self, *names: str) -> Any:
        for name in names:
            if name in self._content:
                return self._content[name]
        keys = shown(", ".join(map(str, list(self._content)[:10])))
        raise ValueError(f"{self.path} has no {names[0]}, only the keys {keys}")

    def _vector(self, table: Any, word: Any, index: Any) -> np.ndarray:
        if type(index) is not int:
            raise ValueError(
                f"{self.path}: w2id has {described(word)}: {described(index)}, expected the number of a vector"
            )
        try:
            # A negative number would count from the end of a list.
            vector = None if index < 0 and not isinstance(table, dict) else _unwrap(table[index])
        except (KeyError, IndexError, TypeError):
            vector = None
        if vector is None:
            raise ValueError(f"{self.path}: id2vec has no vector for the id {index} of {word!r}")
        if isinstance(vector, list | tuple) and all(type(number) in (int, float) for number in vector):
            vector = np.array(vector, dtype=np.float64)
        if not isinstance(vector, np.ndarray) or vector.ndim != 1 or not 1 <= len(vector) <= _MAX_WIDTH:
            raise ValueError(f"{self.path}: the vector of {word!r} is not a row of 1 to {_MAX_WIDTH} numbers")
        with np.errstate(over="ignore"):
            vector = vector.astype(np.float32)
        if not np.isfinite(vector).all():
            raise ValueError(f"{self.path}: the vector of {word!r} has numbers that are not finite")
        return vector


def _unwrap(value: Any) -> Any:
    return value.values if isinstance(value, PlainArray) else value
