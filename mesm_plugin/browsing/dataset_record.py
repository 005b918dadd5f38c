# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Everything that `mesm browse` shows of a data set, as JSON can hold it."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesm_plugin.browsing.feature_coverage import feature_coverage
from mesm_plugin.browsing.opened_splits import OpenedSplits
from mesm_plugin.browsing.statistics import Videos, count_words, outside_share, shared_videos, split_statistics
from mesm_plugin.datasets.feature_store import FeatureStore
from mesm_plugin.datasets.files import read_lines
from mesm_plugin.datasets.text.vocabulary import Vocabulary


@dataclass
class CountedVocabulary:
    """A file of counted words or tokens.

    Attributes:
        path: Of the file.
        classes: How many of its most frequent entries have a class of their own.
        counts: How often each entry occurs, most frequent first.
    """

    path: Path
    classes: int
    counts: dict[str, int]

    @classmethod
    def read(cls, path: Path, classes: int) -> "CountedVocabulary":
        """Reads and checks a file.

        Raises:
            FileNotFoundError: The file does not exist.
            ValueError: It is broken, or `classes` is not positive.
        """
        Vocabulary.from_file(path, classes)
        rows = [line.split() for line in read_lines(path)]
        return cls(path, classes, {row[0]: int(row[-1]) for row in rows})

    @property
    def holds_words(self) -> bool:
        """Whether the entries are words, and not ids of a tokeniser."""
        return not all(entry.isdecimal() for entry in self.counts)

    @property
    def words_of_classes(self) -> set[str]:
        """The entries that have a class of their own."""
        return set(list(self.counts)[: self.classes])

    def record(self) -> dict[str, Any]:
        """`file`, `entries`, `classes`, and the share of the counted `occurrences` and `entries` outside of these."""
        outside = outside_share(self.counts, self.words_of_classes)
        return {
            "file": str(self.path),
            "entries": len(self.counts),
            "classes": self.classes,
            "counted_outside_classes": outside["occurrences"],
        }


def describe(
    opened: OpenedSplits,
    splits: Mapping[str, Videos],
    vocabularies: Collection[CountedVocabulary] = (),
    words_with_vector: Collection[str] | None = None,
    features: Mapping[str, FeatureStore] | None = None,
) -> dict[str, Any]:
    """Statistics of each split, and what splits share.

    Args:
        opened: The data set.
        splits: Videos of those splits that were read.
        vocabularies: To say how many words have no class.
        words_with_vector: Words that word vectors are known of; None if there are no word vectors.
        features: Feature stores by name.
    """
    words = {split: count_words(videos) for split, videos in splits.items()}
    record: dict[str, Any] = {
        "dataset": opened.title,
        "annotations": opened.place,
        "vocabularies": [vocabulary.record() for vocabulary in vocabularies],
        "splits": {},
        "shared_videos": shared_videos(splits),
    }
    for split, videos in splits.items():
        own = record["splits"][split] = split_statistics(videos)
        own["repairs"] = dict(opened.splits[split].repairs)
        own["outside_classes"] = {
            str(vocabulary.path): outside_share(words[split], vocabulary.words_of_classes)
            for vocabulary in vocabularies
            if vocabulary.holds_words
        }
        if words_with_vector is not None:
            own["without_vector"] = outside_share(words[split], words_with_vector)
        if split != "train" and "train" in words:
            own["unseen_in_train"] = outside_share(words[split], words["train"])
        own["most_frequent_words"] = dict(Counter(words[split]).most_common(20))
        own["features"] = {name: feature_coverage(videos, store) for name, store in (features or {}).items()}
    return record
