# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What the annotations of a data set hold, in numbers."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from mesm_plugin.datasets.text.words import split_words

Videos = Sequence[Mapping[str, Any]]
"""What `GroundingDataset.load_data_list` returns."""


def count_words(videos: Videos) -> Counter[str]:
    """How often each word occurs in the sentences; words as `split_words` gives them, most frequent first."""
    words = Counter(word for video in videos for query in video["queries"] for word in split_words(query["sentence"]))
    return Counter(dict(words.most_common()))


def split_statistics(videos: Videos) -> dict[str, Any]:
    """Counts and distributions of a split.

    Args:
        videos: At least one.

    Returns:
        What JSON can hold. `videos`, `sources`, `queries`, `moments` (None without labels), `words` and
        `distinct_words` are counts, `hours` is the length of all videos. A distribution has `min`, `median`, `mean` and
        `max`: `duration` in seconds, `queries_a_video`, `words_a_sentence` and, with labels, `moment_seconds`,
        `moment_share` of the video's duration, and `moment_start` and `moment_end` as shares, too. With labels,
        `moments_a_query` says how many queries have so many moments; with grades, `graded_clips` counts clips with
        grades, `grades` how often each was given, and `clips_graded_zero` those that all
        annotators graded 0.
    """
    queries = [query for video in videos for query in video["queries"]]
    words = count_words(videos)
    durations = np.array([video["duration"] for video in videos], dtype=np.float64)
    labelled = "moments" in queries[0]
    record: dict[str, Any] = {
        "videos": len(videos),
        "sources": len({video["source"] for video in videos}),
        "hours": round(float(durations.sum() / 3600), 6),
        "duration": distribution(durations),
        "queries": len(queries),
        "queries_a_video": distribution([len(video["queries"]) for video in videos]),
        "words": words.total(),
        "distinct_words": len(words),
        "words_a_sentence": distribution([len(split_words(query["sentence"])) for query in queries]),
        "moments": None,
    }
    if labelled:
        seconds, shares = moment_times(videos)
        lengths = Counter(len(query["moments"]) for query in queries)
        record |= {
            "moments": len(seconds),
            "moments_a_query": {str(count): lengths[count] for count in sorted(lengths)},
            "moment_seconds": distribution(seconds[:, 1] - seconds[:, 0]),
            "moment_share": distribution(shares[:, 1] - shares[:, 0]),
            "moment_start": distribution(shares[:, 0]),
            "moment_end": distribution(shares[:, 1]),
        }
    graded = [clip for query in queries for clip in query.get("grades", ())]
    if graded:
        given = Counter(grade for clip in graded for grade in clip)
        record["graded_clips"] = len(graded)
        record["grades"] = {str(grade): given[grade] for grade in sorted(given)}
        record["clips_graded_zero"] = sum(not any(clip) for clip in graded)
    return record


def moment_times(videos: Videos) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of all moments, (M, 2) in seconds and (M, 2) as shares of the video's duration."""
    moments = [
        (*moment, video["duration"]) for video in videos for query in video["queries"] for moment in query["moments"]
    ]
    times = np.array(moments, dtype=np.float64).reshape(-1, 3)
    return times[:, :2], times[:, :2] / times[:, 2:]


def outside_share(words: Mapping[str, int], known: Collection[str]) -> dict[str, float]:
    """Share of the words that are not among `known`.

    Args:
        words: How often each occurs; at least one.
        known: Words.

    Returns:
        `occurrences`, the share of all occurrences, and `distinct_words`, that of the distinct words, both from 0 to 1.
    """
    unknown = {word: count for word, count in words.items() if word not in known}
    return {
        "occurrences": round(sum(unknown.values()) / sum(words.values()), 6),
        "distinct_words": round(len(unknown) / len(words), 6),
    }


def shared_videos(splits: Mapping[str, Videos]) -> dict[str, dict[str, int]]:
    """How many source videos each two splits share: for each split but the last the later ones.

    Source videos, since two sequences that were cut from one can overlap.
    """
    sources = {split: {video["source"] for video in videos} for split, videos in splits.items()}
    shared: dict[str, dict[str, int]] = {}
    for first, second in combinations(sources, 2):
        shared.setdefault(first, {})[second] = len(sources[first] & sources[second])
    return shared


def distribution(values: Any) -> dict[str, float]:
    """`min`, `median`, `mean` and `max` of some numbers, at least one; to six decimals."""
    values = np.asarray(values, dtype=np.float64)
    found = {"min": values.min(), "median": np.median(values), "mean": values.mean(), "max": values.max()}
    return {name: round(float(value), 6) for name, value in found.items()}
