# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Several processes compute the losses and gradients of one process on their joined batches."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from bench.process_group import in_process_group
from mesm_plugin.datasets import collate_grounding
from mesm_plugin.registry import MODELS
from tests.conftest import random_items

PARTS = [([9, 5, 7], [2, 1, 3]), ([6, 8], [1, 2]), ([12, 4], [4, 1])]


def parts_of(count: int, **options: Any) -> list[dict[str, Tensor]]:
    return [
        collate_grounding(random_items(*PARTS[i], seed=i, **options), training=True)["inputs"] for i in range(count)
    ]


def pad_to(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    missing = [full - size for size, full in zip(tensor.shape, shape, strict=True)]
    return F.pad(tensor, [width for count in reversed(missing) for width in (0, count)])


def joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """One batch with the videos, queries and pairs of all parts."""
    clips = max(part["video"].shape[1] for part in parts)
    shifted: list[dict[str, Tensor]] = []
    videos = queries = sources = 0
    for part in parts:
        length = part["video"].shape[1]
        place = part["source_clips"]
        moved = (place // length + videos) * clips + place % length
        shifted.append(
            {
                **part,
                "query_video": part["query_video"] + videos,
                "source": part["source"] + sources,
                "source_clips": moved.masked_fill(~part["source_clips_mask"], 0),
                "pair_video": part["pair_video"] + videos,
                "pair_query": part["pair_query"] + queries,
            }
        )
        videos, sources = videos + len(part["video"]), sources + len(place)
        queries += len(part["words"])
    batch = {}
    for name in parts[0]:
        tensors = [part[name] for part in shifted]
        if name in ("pair_video", "pair_query"):
            halves = [tensor.view(2, -1) for tensor in tensors]
            batch[name] = torch.cat([half[0] for half in halves] + [half[1] for half in halves])
            continue
        shape = tuple(max(tensor.shape[dim] for tensor in tensors) for dim in range(1, tensors[0].dim()))
        batch[name] = torch.cat([pad_to(tensor, (len(tensor), *shape)) for tensor in tensors])
    return batch


def computed(config: dict[str, Any], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Losses and gradients by name."""
    torch.manual_seed(0)
    model = MODELS.build(config)
    losses = model(inputs, mode="loss")
    torch.stack(list(losses.values())).sum().backward()
    gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}
    return {**{name: value.detach() for name, value in losses.items()}, **gradients}


def work(rank: int, config: dict[str, Any], options: dict[str, Any], folder: str) -> None:
    processes = dist.get_world_size()
    values = computed(config, parts_of(processes, **options)[rank])
    for value in values.values():
        dist.all_reduce(value)
        value /= processes
    if rank == 0:
        torch.save(values, f"{folder}/values.pt")


def in_processes(processes: int, config: dict[str, Any], options: dict[str, Any], folder: Path) -> dict[str, Tensor]:
    """Losses and gradients, mean over the processes, as DistributedDataParallel takes it."""
    in_process_group(work, processes, config, options, str(folder))
    return torch.load(folder / "values.pt")


@pytest.mark.parametrize(
    ("processes", "changes", "options"),
    [
        (2, {}, {}),
        (3, {"saliency_losses": [{"type": "SaliencyHingeLoss"}, {"type": "ClipBCELoss"}]}, {"moments_a_query": 2}),
    ],
)
def test_joined_batch(grounder_config, tmp_path, processes, changes, options):
    config = {**grounder_config, **changes}
    expected = computed(config, joined(parts_of(processes, **options)))
    values = in_processes(processes, config, options, tmp_path)
    assert values.keys() == expected.keys()
    assert expected["loss_contrastive"] > 0
    for name, value in values.items():
        # Some gradients are zero but for rounding.
        atol = max(2e-5 * float(expected[name].abs().max()), 1e-6)
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=atol, msg=f"{name} differs")


def test_contrast_within_each_process(grounder_config, tmp_path):
    aligner = grounder_config["aligner"]
    aligner = {**aligner, "contrastive_loss": {**aligner["contrastive_loss"], "gather": False}}
    config = {**grounder_config, "aligner": aligner}
    alone = [computed(config, part)["loss_contrastive"] for part in parts_of(2)]
    values = in_processes(2, config, {}, tmp_path)
    torch.testing.assert_close(values["loss_contrastive"], torch.stack(alone).mean())
