# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A few lengths that batches are padded to, so that few shapes come up."""

from bisect import bisect_left
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mesm_plugin.datasets.grounding_dataset import GroundingDataset

CLIP_INPUTS = ("video", "video_mask", "segment_mask", "saliency")
WORD_INPUTS = ("words", "words_mask", "masked_words", "words_label", "unknown_words")
MOMENT_INPUTS = ("moments", "moments_mask")


def choose_buckets(lengths: Sequence[int], joined: float, count: int) -> tuple[int, ...]:
    """Chooses the lengths that batches are padded to so that the expected padded length is least.

    A batch is as long as its longest sequence, so a length is as frequent as it is the longest of `joined` drawn ones.

    Args:
        lengths: Of all sequences of a data set, at least 1 each.
        joined: How many sequences a batch has, on average.
        count: Most buckets.

    Returns:
        Rising lengths, the last of them the longest of all; fewer than `count` where there are fewer lengths.

    Raises:
        ValueError: There is no length, or no bucket is allowed.
    """
    if count < 1:
        raise ValueError(f"{count} buckets are asked for, expected at least 1")
    if not len(lengths):
        raise ValueError("there are no lengths to choose buckets for")
    values, occurrences = np.unique(np.asarray(lengths), return_counts=True)
    up_to = np.concatenate(([0.0], (occurrences.cumsum() / occurrences.sum()) ** max(joined, 1.0)))
    # least[j]: expected padded length of the batches that are no longer than values[j - 1].
    least = np.concatenate(([0.0], np.full(len(values), np.inf)))
    ends = []
    for _ in range(min(count, len(values))):
        # cost[i, j]: a bucket of values[j - 1] takes the batches longer than values[i - 1].
        cost = least[:, None] + np.concatenate(([0.0], values)) * (up_to - up_to[:, None])
        cost[np.tril_indices(len(up_to))] = np.inf
        cost[0, 0] = 0.0
        ends.append(cost.argmin(axis=0))
        least = cost.min(axis=0)
    buckets = []
    end = len(values)
    for previous in reversed(ends):
        if end > 0:
            buckets.append(int(values[end - 1]))
            end = int(previous[end])
    return tuple(reversed(buckets))


@dataclass(frozen=True)
class DatasetLengths:
    """How long the sequences of a data set are.

    Attributes:
        clips: Lv of each item.
        words: Lw of each query.
        moments: M of each query; empty where the data set has no labels.
    """

    clips: Sequence[int]
    words: Sequence[int]
    moments: Sequence[int]

    @classmethod
    def of(cls, dataset: Any) -> "DatasetLengths":
        """Counts clips, words and moments; of a `GroundingDataset` without reading features that were read before."""
        if not isinstance(dataset, GroundingDataset):
            items = [dataset[i] for i in range(len(dataset))]
            queries = [query for item in items for query in item["queries"]]
            moments = [len(query["moments"]) for query in queries if "moments" in query]
            return cls([len(item["video"]) for item in items], [len(query["words"]) for query in queries], moments)
        videos = [dataset.get_data_info(i) for i in range(len(dataset))]
        counts = dataset.features.num_clips(list(dict.fromkeys(video["vid"] for video in videos)))
        longest = dataset.max_clips or max(counts.values())
        queries = [query for video in videos for query in video["queries"]]
        return cls(
            [min(counts[video["vid"]], longest) for video in videos],
            [len(dataset.text.encode(query["sentence"], query["qid"])["words"]) for query in queries],
            [len(query["moments"]) for query in queries if "moments" in query],
        )


@dataclass(frozen=True)
class LengthBuckets:
    """The lengths that batches are padded to.

    Attributes:
        clips: Rising numbers of clips.
        words: Rising numbers of words.
        moments: The one number of moments of a query; 0 where there are no labels.
    """

    clips: tuple[int, ...]
    words: tuple[int, ...]
    moments: int

    @classmethod
    def choose(
        cls, lengths: DatasetLengths, batch_size: int, clip_buckets: int, word_buckets: int, max_moments: int | None
    ) -> "LengthBuckets":
        """Chooses the buckets for batches of `batch_size` items.

        Args:
            lengths: Of the data set.
            batch_size: Items of a batch.
            clip_buckets, word_buckets: Most buckets of each kind.
            max_moments: As many moments of a query are kept in training; None = all.
        """
        moments = max(lengths.moments, default=0)
        return cls(
            choose_buckets(lengths.clips, batch_size, clip_buckets),
            choose_buckets(lengths.words, batch_size * len(lengths.words) / len(lengths.clips), word_buckets),
            moments if max_moments is None else min(moments, max_moments),
        )

    def extended(self, lengths: DatasetLengths) -> "LengthBuckets":
        """These buckets, and where another data set is longer one more of its longest length."""
        clips, words = max(lengths.clips), max(lengths.words)
        return LengthBuckets(
            self.clips + (clips,) * (clips > self.clips[-1]),
            self.words + (words,) * (words > self.words[-1]),
            max(self.moments, max(lengths.moments, default=0)),
        )

    def pad(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Pads the inputs of a batch, as `collate_grounding` returns them, to the next buckets; masks tell of it.

        Clips of sources are padded to a multiple of the clips' bucket.

        Raises:
            ValueError: The batch is longer than the longest bucket.
        """
        width = inputs["video"].shape[1]
        clips, words = _bucket(self.clips, width, "clips"), _bucket(self.words, inputs["words"].shape[1], "words")
        padded = copy(inputs)
        sizes = [(CLIP_INPUTS, clips), (WORD_INPUTS, words)]
        if "moments" in inputs:
            sizes.append((MOMENT_INPUTS, _bucket((self.moments,), inputs["moments"].shape[1], "moments")))
        for names, size in sizes:
            for name in names:
                if name in inputs:
                    padded[name] = _pad(inputs[name], size)
        index, mask = inputs["source_clips"], inputs["source_clips_mask"]
        # Where a clip is among the V * Lv clips depends on Lv.
        index = (index // width * clips + index % width).masked_fill(~mask, 0)
        size = -(-index.shape[1] // clips) * clips
        padded["source_clips"], padded["source_clips_mask"] = _pad(index, size), _pad(mask, size)
        return padded


def _bucket(buckets: tuple[int, ...], length: int, unit: str) -> int:
    place = bisect_left(buckets, length)
    if place == len(buckets):
        raise ValueError(
            f"a batch has {length} {unit}, more than any item of the data set had when the buckets {buckets} were "
            "chosen; pipelines must not lengthen items"
        )
    return buckets[place]


def _pad(x: Tensor, size: int) -> Tensor:
    """x (n, l, ...) as (n, size, ...), with zeros or False behind."""
    padded = F.pad(x, (*(0, 0) * (x.dim() - 2), 0, size - x.shape[1]))
    return padded if padded is not x else torch.clone(x)
