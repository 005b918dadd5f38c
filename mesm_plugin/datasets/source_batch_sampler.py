# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Batches that keep the videos of a source together."""

from collections.abc import Iterable, Iterator
from itertools import chain

import torch
from mmengine.dataset import DefaultSampler
from torch.utils.data import Sampler

from mesm_plugin.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class SourceBatchSampler(Sampler[list[int]]):
    """Batches of whole sources: all clip sequences cut from a source video, in the data set's order.

    SS-MESM looks at all sequences of a source in the batch, so with other batches it sees fewer of them.

    In training, the sources are shuffled and divided among the processes. Without shuffling the order is that of the
    sampler, as MMEngine needs it to gather results; so in an evaluation with several processes each has only part of a
    source.

    Args:
        sampler: MMEngine's default sampler of a `GroundingDataset`.
        batch_size: Sources of a batch; the last batch can have fewer.

    Raises:
        TypeError: The sampler is another one.
        ValueError: `batch_size` is not positive.
    """

    def __init__(self, sampler: DefaultSampler, batch_size: int) -> None:
        if not isinstance(sampler, DefaultSampler):
            name = type(sampler).__name__
            raise TypeError(f"sampler is {name}; SourceBatchSampler knows how DefaultSampler divides videos, take that")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected at least 1 source a batch")
        # MMEngine tells this sampler the epoch.
        self.sampler = sampler
        self.batch_size = batch_size
        dataset = sampler.dataset
        self._source_of = [dataset.get_data_info(index)["source"] for index in range(len(dataset))]

    def __iter__(self) -> Iterator[list[int]]:
        groups = self._shuffled_groups() if self.sampler.shuffle else list(self._grouped(self.sampler).values())
        for start in range(0, len(groups), self.batch_size):
            yield list(chain.from_iterable(groups[start : start + self.batch_size]))

    def __len__(self) -> int:
        groups = self._share(len(set(self._source_of))) if self.sampler.shuffle else len(self._grouped(self.sampler))
        return -(-groups // self.batch_size)

    def _shuffled_groups(self) -> list[list[int]]:
        groups = list(self._grouped(range(len(self._source_of))).values())
        generator = torch.Generator().manual_seed(self.sampler.seed + self.sampler.epoch)
        order = torch.randperm(len(groups), generator=generator).tolist()
        # Every process needs as many batches as the others: some sources come twice.
        world, rank = self.sampler.world_size, self.sampler.rank
        return [groups[order[(rank + i * world) % len(order)]] for i in range(self._share(len(order)))]

    def _share(self, sources: int) -> int:
        return -(-sources // self.sampler.world_size)

    def _grouped(self, indices: Iterable[int]) -> dict[str, list[int]]:
        groups: dict[str, list[int]] = {}
        for index in indices:
            groups.setdefault(self._source_of[index], []).append(index)
        return groups
