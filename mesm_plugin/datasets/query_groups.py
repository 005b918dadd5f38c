# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Videos of many queries as several items."""

import hashlib
from typing import Any

import numpy as np


def group_queries(infos: list[dict[str, Any]], max_queries: int) -> list[dict[str, Any]]:
    """Divides the queries of each video at random into groups, so that a step need not take all of them.

    The division of a video depends on its id and on the number of its queries alone. Within a group the queries keep
    their order. The first groups of all videos come first, then the second ones and so on, so that a batch taken in
    order seldom holds a video twice.

    Args:
        infos: Videos as `GroundingDataset.load_data_list` returns them.
        max_queries: Of a group. The last group of a video has what is left.

    Returns:
        A dict per group, which differs from that of its video only in `queries`.
    """
    rounds: list[list[dict[str, Any]]] = []
    for info in infos:
        queries = info["queries"]
        seed = int.from_bytes(hashlib.sha256(info["vid"].encode()).digest()[:8], "big")
        order = np.random.default_rng(seed).permutation(len(queries))
        for turn, first in enumerate(range(0, len(queries), max_queries)):
            if turn == len(rounds):
                rounds.append([])
            chosen = sorted(order[first : first + max_queries].tolist())
            rounds[turn].append({**info, "queries": [queries[index] for index in chosen]})
    return [group for groups in rounds for group in groups]
