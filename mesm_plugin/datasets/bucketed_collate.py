# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A collate function whose batches have few shapes."""

from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.data import DataLoader

from mesm_plugin.datasets.length_buckets import DatasetLengths, LengthBuckets
from mesm_plugin.registry import FUNCTIONS


@FUNCTIONS.register_module()
class BucketedCollate:
    """Collates by another function and pads the batch to the next of a few lengths; nothing else of it changes.

    Args:
        collate: Returns `inputs` and `data_samples` as `collate_grounding` does.
        buckets: What to pad to.
    """

    def __init__(self, collate: Callable[..., dict[str, Any]], buckets: LengthBuckets) -> None:
        self.collate = collate
        self.buckets = buckets

    def __call__(self, items: Sequence[Any]) -> dict[str, Any]:
        """Collates and pads."""
        batch = self.collate(items)
        return {**batch, "inputs": self.buckets.pad(batch["inputs"])}

    @classmethod
    def install(
        cls, loader: DataLoader, clip_buckets: int, word_buckets: int, known: LengthBuckets | None = None
    ) -> "BucketedCollate":
        """Makes a loader pad its batches, to buckets chosen for its data set; once, also when it is called again.

        Args:
            loader: Whose workers have not started yet.
            clip_buckets: Most different numbers of clips.
            word_buckets: Most different numbers of words.
            known: Buckets of another data set, which are taken and extended where they are too short.
        """
        collate: Callable[..., Any] = loader.collate_fn
        if isinstance(collate, cls):
            return collate
        lengths = DatasetLengths.of(loader.dataset)
        if known is not None:
            buckets = known.extended(lengths)
        else:
            max_moments = getattr(collate, "keywords", {}).get("max_moments")
            size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None) or 1
            buckets = LengthBuckets.choose(lengths, size, clip_buckets, word_buckets, max_moments)
        loader.collate_fn = installed = cls(collate, buckets)
        return installed
