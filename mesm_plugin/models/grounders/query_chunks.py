# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Dividing the queries of a batch, so that memory does not grow with their number."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

PER_VIDEO = frozenset({"video", "video_mask", "source", "source_clips", "source_clips_mask"})


def query_chunks(inputs: Mapping[str, Tensor], max_pair_clips: int) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """Divides a batch into ones of all its videos and some of its queries, in order.

    Negative pairs are left out. How many queries a chunk has depends on shapes only, so no device is waited for.

    Args:
        inputs: The batch that `mesm_plugin.datasets.collate_grounding` describes, Q queries and videos of Lv clips.
        max_pair_clips: Most clips of all pairs of a chunk, padding included; a chunk has one query at least.

    Yields:
        Which of the Q queries, and their batch.
    """
    query_video = inputs["query_video"]
    size = max(1, max_pair_clips // inputs["video_mask"].shape[1])
    for begin in range(0, len(query_video), size):
        rows = slice(begin, begin + size)
        chunk = {
            name: value if name in PER_VIDEO else value[rows]
            for name, value in inputs.items()
            if name not in ("pair_video", "pair_query")
        }
        pair_query = torch.arange(len(query_video[rows]), device=query_video.device)
        yield rows, {**chunk, "pair_video": query_video[rows], "pair_query": pair_query}
