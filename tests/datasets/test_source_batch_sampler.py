# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from itertools import chain
from typing import Any

import pytest
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.runner import Runner

from mesm_plugin.datasets import SourceBatchSampler

SOURCES = ["a", "b", "b", "b", "c", "d", "d", "e"]


class Videos:
    """What the sampler reads of a data set."""

    metainfo = None

    def __len__(self) -> int:
        return len(SOURCES)

    def get_data_info(self, index: int) -> dict[str, Any]:
        return {"source": SOURCES[index]}

    def __getitem__(self, index: int) -> int:
        return index


def _sampler(shuffle: bool, rank: int = 0, world_size: int = 1, seed: int = 0) -> DefaultSampler:
    sampler = DefaultSampler(Videos(), shuffle=shuffle, seed=seed)
    sampler.rank, sampler.world_size = rank, world_size
    sampler.num_samples = -(-len(SOURCES) // world_size)
    sampler.total_size = sampler.num_samples * world_size
    return sampler


def test_without_shuffling_the_order_is_kept() -> None:
    batches = SourceBatchSampler(_sampler(shuffle=False), 2)
    assert list(batches) == [[0, 1, 2, 3], [4, 5, 6], [7]]
    assert len(batches) == 3


def test_sources_are_shuffled_whole_and_anew_in_each_epoch() -> None:
    batches = SourceBatchSampler(_sampler(shuffle=True), 2)
    first = list(batches)
    assert len(first) == len(batches) == 3
    assert sorted(chain(*first)) == list(range(8))
    for source in "abde":
        videos = [index for index, name in enumerate(SOURCES) if name == source]
        assert sum(set(videos) <= set(batch) for batch in first) == 1
    assert list(batches) == first
    batches.sampler.set_epoch(1)
    assert list(batches) != first
    assert list(SourceBatchSampler(_sampler(shuffle=True, seed=1), 2)) != first


def test_every_source_is_as_likely_to_come_first() -> None:
    batches = SourceBatchSampler(_sampler(shuffle=True), 1)
    first = []
    for epoch in range(1000):
        batches.sampler.set_epoch(epoch)
        first.append(SOURCES[next(iter(batches))[0]])
    assert all(150 < first.count(source) < 250 for source in "abcde")


def test_processes_share_the_sources() -> None:
    shares = [SourceBatchSampler(_sampler(True, rank, 2), 2) for rank in (0, 1)]
    groups = [list(share) for share in shares]
    # Five sources for two processes: one comes twice.
    assert [len(batches) for batches in groups] == [len(share) for share in shares] == [2, 2]
    drawn = [SOURCES[index] for batches in groups for index in chain(*batches)]
    assert set(drawn) == set("abcde")
    repeated = [source for source in "abcde" if drawn.count(source) != SOURCES.count(source)]
    assert len(repeated) == 1
    assert drawn.count(repeated[0]) == 2 * SOURCES.count(repeated[0])


def test_processes_evaluate_what_the_sampler_gives_them() -> None:
    assert list(SourceBatchSampler(_sampler(False, 1, 2), 2)) == [[1, 3, 5], [7]]


def test_built_by_a_config() -> None:
    loader = Runner.build_dataloader(
        {
            "dataset": Videos(),
            "batch_size": 2,
            "sampler": {"type": "DefaultSampler", "shuffle": False},
            "batch_sampler": {"type": "mesm_plugin.SourceBatchSampler"},
            "collate_fn": {"type": "pseudo_collate"},
            "num_workers": 0,
        }
    )
    assert list(loader) == [[0, 1, 2, 3], [4, 5, 6], [7]]


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match="sampler is InfiniteSampler; .* DefaultSampler divides videos, take that"):
        SourceBatchSampler(InfiniteSampler(Videos()), 2)
    with pytest.raises(ValueError, match="batch_size is 0, expected at least 1 source a batch"):
        SourceBatchSampler(_sampler(shuffle=False), 0)
