# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Counts of the words of a published data set, as the released files `*_tokenized_count.txt` have them."""

import re
from collections import Counter
from collections.abc import Sequence

from mesm_plugin.datasets.dataset_names import PublishedDataset
from mesm_plugin.datasets.files import read_json_lines
from mesm_plugin.datasets.text.byte_pair import BytePairTokenizer
from mesm_plugin.datasets.text.words import split_words

# Which the released files count, found by comparison: they leave out TACoS's val. Their Charades-CG and Charades-CD
# refer to the counts of Charades-STA; counted by themselves, all of their splits are.
_COUNTED_SPLITS = {"charades": ("train", "test"), "tacos": ("train", "test"), "qvhighlights": ("train", "val")}
# The released settings of `max_words_l`, with start and end.
_MAX_TOKENS = {"qvhighlights": 32}
# GloVe's ids in the released files begin behind padding and the unknown word.
_FIRST_ID = 2


def counted_splits(dataset: PublishedDataset) -> tuple[str, ...]:
    """The splits that are counted unless others are asked for."""
    return _COUNTED_SPLITS.get(dataset.name, tuple(dataset.splits))


def sentences_in_order(dataset: PublishedDataset, split: str) -> list[str]:
    """The sentences of a split in the order of its annotation file, which decides between words of equal count.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: There is no such split, or a file is broken; the message names the place.
    """
    queries = [query for video in dataset.read(split) for query in video["queries"]]
    if dataset.name == "qvhighlights":
        path = dataset.open(split).ann_file
        rank = {value["qid"]: number for number, value in read_json_lines(path)}
        queries.sort(key=lambda query: rank[query["qid"]])
    else:
        # Numbered in the order of the file: 12, or "train-12".
        queries.sort(key=lambda query: int(re.findall(r"\d+", str(query["qid"]))[-1]))
    return [query["sentence"] for query in queries]


def count_words(sentences: Sequence[str], max_words: int | None = None) -> list[str]:
    """Lines "word id count" for GloVe, most frequent first, then in order of appearance.

    The id is 2 + the rank of the word in alphabetical order, as in the released files.

    Args:
        sentences: Split by `split_words`.
        max_words: Further words of a sentence are not counted; None for all, as in the released files.

    Raises:
        ValueError: `max_words` is not positive, or there is no word.
    """
    if max_words is not None and max_words < 1:
        raise ValueError(f"max_words is {max_words}, expected at least 1")
    counts = Counter(word for sentence in sentences for word in split_words(sentence)[:max_words])
    ids = {word: index for index, word in enumerate(sorted(counts), _FIRST_ID)}
    return [f"{word} {ids[word]} {count}" for word, count in _most_common(counts)]


def count_tokens(sentences: Sequence[str], tokenizer: BytePairTokenizer, max_tokens: int) -> list[str]:
    """Lines "id count" for CLIP, most frequent first, then in order of appearance; start and end are not counted.

    Args:
        sentences: The sentences.
        tokenizer: CLIP's.
        max_tokens: Longest sentence, start and end included, as `max_words_l` of the released code.

    Raises:
        ValueError: `max_tokens` leaves no room for a word, or there is none.
    """
    if max_tokens < 3:
        raise ValueError(f"max_tokens is {max_tokens}, expected at least 3: start, end and a token between them")
    counts = Counter(token for sentence in sentences for token in tokenizer.encode(sentence)[1:-1][: max_tokens - 2])
    return [f"{token} {count}" for token, count in _most_common(counts)]


def published_max_tokens(dataset: PublishedDataset) -> int:
    """Longest sentence, in CLIP's tokens with start and end, that the released file counts."""
    return _MAX_TOKENS.get(dataset.name, 16)


def _most_common(counts: Counter) -> list[tuple]:
    if not counts:
        raise ValueError("the sentences have no words to count")
    return counts.most_common()
