# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from typing import Any

from mesm_plugin.datasets.query_groups import group_queries


def _video(vid: str, count: int) -> dict[str, Any]:
    return {"vid": vid, "duration": 3.0, "queries": [{"qid": i} for i in range(count)]}


def _groups(infos: list[dict[str, Any]]) -> list[tuple[str, list[int]]]:
    return [(info["vid"], [query["qid"] for query in info["queries"]]) for info in infos]


def test_every_query_is_in_one_group_in_order() -> None:
    groups = _groups(group_queries([_video("a", 25), _video("b", 4), _video("c", 12)], 10))
    assert [(vid, len(qids)) for vid, qids in groups] == [
        ("a", 10),
        ("b", 4),
        ("c", 10),
        ("a", 10),
        ("c", 2),
        ("a", 5),
    ]
    assert all(qids == sorted(qids) for _, qids in groups)
    assert sorted(qid for vid, qids in groups if vid == "a" for qid in qids) == list(range(25))


def test_groups_are_drawn_at_random_and_alike_every_time() -> None:
    (_, first), *_ = groups = _groups(group_queries([_video("a", 100)], 10))
    assert first != list(range(10))
    # A sorted draw of 10 of 100 reaches over more than half of them.
    assert first[-1] - first[0] > 50
    assert _groups(group_queries([_video("b", 3), _video("a", 100)], 10))[1:] == groups
    assert _groups(group_queries([_video("b", 100)], 10))[0][1] != first


def test_a_group_keeps_what_its_video_has() -> None:
    group = group_queries([_video("a", 3)], 2)[1]
    assert (group["vid"], group["duration"], len(group["queries"])) == ("a", 3.0, 1)
