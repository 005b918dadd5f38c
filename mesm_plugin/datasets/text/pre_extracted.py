# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Word features that were extracted beforehand."""

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

from mesm_plugin.datasets.arrays import check_width, checked_sequence, l2_normalize
from mesm_plugin.datasets.checked_arrays import Shape, check_arrays
from mesm_plugin.datasets.hdf5 import HDF5File
from mesm_plugin.datasets.text.encoder import TextEncoder, query_name
from mesm_plugin.datasets.text.token_classes import TokenClasses
from mesm_plugin.registry import TRANSFORMS

_START_OF_TEXT, _END_OF_TEXT = 49406, 49407


@TRANSFORMS.register_module()
class PreExtractedText(TextEncoder):
    """Word features of every query from an HDF5 file, of CLIP's text encoder for instance.

    The file holds one data set (Lw, Dt) per query, named by its query id. For masked language modelling each has the
    attribute `token_ids` (Lw,), ids of CLIP's tokeniser: the most frequent ones have a class of their own, then come
    one class of all others, one of CLIP's start and one of its end of text (49406 and 49407), as in the released code.
    Start and end are never masked.

    Args:
        file: Path of the HDF5 file.
        vocabulary: `CLIP_tokenized_count.txt` of the data set; None if there is no masked language modelling.
        vocabulary_size: So many of its token ids, from the first line on, have a class of their own.
        max_words: Further words of a query are cut off.
        normalize: Divides every word's features by their L2 norm.
        dim: Expected Dt; unchecked if None.

    Raises:
        FileNotFoundError, OSError: On first use, if the file is missing, truncated or no HDF5 file.
        ValueError: The vocabulary is broken or holds words.
    """

    def __init__(
        self,
        file: str,
        vocabulary: str | None = None,
        vocabulary_size: int = 1111,
        max_words: int = 16,
        normalize: bool = True,
        dim: int | None = None,
    ) -> None:
        if max_words < 1:
            raise ValueError(f"max_words is {max_words}, expected at least 1")
        self.classes = (
            None if vocabulary is None else TokenClasses(vocabulary, vocabulary_size, _START_OF_TEXT, _END_OF_TEXT)
        )
        self.max_words = max_words
        self.normalize = normalize
        self.dim = dim
        self._file = HDF5File(file, "word feature file")

    @property
    def num_classes(self) -> int | None:
        return None if self.classes is None else self.classes.count

    def prepare(self, queries: Sequence[tuple[str, Hashable | None]]) -> dict[int, str]:
        """Reads the words of all queries, unless they are packed or an earlier run did: see `check_arrays`."""
        self._file.require()
        problems: dict[int, str] = {}
        places: dict[str, list[int]] = {}
        for place, (sentence, qid) in enumerate(queries):
            try:
                places.setdefault(self._require(sentence, qid), []).append(place)
            except ValueError as error:
                problems[place] = str(error)
        content = "words" if self.classes is None else "words and token ids"
        shapes, broken = check_arrays(self._file, list(places), self._shape_of, content)
        for key, (rows, channels) in shapes.items():
            try:
                if self._file.checked_shape(key) is not None:
                    self._token_ids(key, rows)
                check_width(channels, self._where(key), self.dim)
            except ValueError as error:
                broken[key] = str(error)
        return problems | {place: problem for key, problem in broken.items() for place in places[key]}

    def encode(self, sentence: str, qid: Hashable | None = None) -> dict[str, Tensor]:
        """See `TextEncoder.encode`; `qid` has to be given, as a new sentence has no features in the file."""
        key = self._require(sentence, qid)
        words = checked_sequence(self._file.read(key), self._where(key), "word", self.dim)
        if self.normalize:
            words = l2_normalize(words)
        ids = self._token_ids(key, len(words))
        words = words[: self.max_words]
        encoded = {"words": torch.from_numpy(words), "words_weight": torch.ones(len(words))}
        if ids is not None:
            ids = ids[: self.max_words]
            encoded["words_weight"] = torch.from_numpy((ids != _START_OF_TEXT) & (ids != _END_OF_TEXT)).float()
        if self.classes is not None:
            assert ids is not None
            encoded |= self.classes.labels(ids.tolist())
        return encoded

    def _token_ids(self, key: str, num_words: int) -> np.ndarray | None:
        ids = self._file.attribute(key, "token_ids")
        if ids is None and self.classes is not None:
            raise ValueError(
                f"{self._file.path}: query {key} has no attribute 'token_ids', which a vocabulary needs; write it, or "
                "leave out the vocabulary and switch off masked language modelling"
            )
        if ids is not None and (ids.shape != (num_words,) or ids.dtype.kind not in "iu"):
            raise ValueError(
                f"{self._file.path}: 'token_ids' of query {key} is {ids.dtype} of shape {ids.shape}, "
                f"expected {num_words} integers, one per word"
            )
        return ids

    def _shape_of(self, key: str) -> Shape:
        rows, channels = checked_sequence(self._file.read(key), self._where(key), "word").shape
        self._token_ids(key, rows)
        return rows, channels

    def _where(self, key: str) -> str:
        return f"{self._file.path}, query {key}"

    def _require(self, sentence: str, qid: Hashable | None) -> str:
        if qid is None:
            raise ValueError(
                f"{query_name(sentence, qid)} is new, and {self._file.path} holds features of known queries only; "
                "encode new sentences with CLIPText (docs/text.md), or with word vectors (GloVeText)"
            )
        if str(qid) not in self._file:
            raise ValueError(
                f"{self._file.path} has no features of {query_name(sentence, qid)} (it holds {len(self._file)} queries)"
            )
        return str(qid)
