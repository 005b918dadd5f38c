# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Annotations, features and sentences of a split."""

from collections.abc import Mapping, Sequence
from typing import Any

from mesm_plugin.checking.input_report import InputReport
from mesm_plugin.datasets import GroundingDataset
from mesm_plugin.registry import DATASETS, TRANSFORMS
from mesm_plugin.utils.progress import track_progress


def check_split(split: str, node: Mapping[str, Any], report: InputReport) -> Any:
    """Reads all annotations of a split, the features of every video and the words of every sentence.

    Args:
        split: "train", "val" or "test".
        node: Config of its data set.
        report: To which numbers and problems are added.

    Returns:
        The data set with what can be used of it; None if nothing can.
    """
    kind = None
    with report.collecting(f"{split} data set"):
        kind = DATASETS.get(node["type"]) if isinstance(node["type"], str) else node["type"]
        if kind is None:
            DATASETS.build(dict(node))
    if kind is None:
        return None
    if not (isinstance(kind, type) and issubclass(kind, GroundingDataset)):
        report.notices.append(f"{split}: the files of a {node['type']} are not looked at one by one")
        with report.collecting(f"{split} data set"):
            return DATASETS.build(dict(node))
        return None
    dataset = _built(split, node, report)
    if dataset is None:
        return None
    numbers = report.splits.setdefault(split, {})
    videos: Sequence[dict] = []
    with report.collecting(f"{split} annotations"):
        videos = dataset.read_annotations()
    for place, reason in dataset.left_out.items():
        report.add(f"{split} annotations", place, reason)
    queries = [query for video in videos for query in video["queries"]]
    numbers |= {
        "videos": len({video["vid"] for video in videos}),
        "queries": len(queries),
        "moments": sum(len(query.get("moments", ())) for query in queries),
        "repaired or dropped": sum(dataset.repairs.values()),
    }
    # Without annotations, too: a missing file of features is to be in the same report.
    readable = _check_features(split, dataset, videos, report) & _check_sentences(split, dataset, queries, report)
    return _usable(split, dataset, report) if readable and videos else None


def _built(split: str, node: Mapping[str, Any], report: InputReport) -> GroundingDataset | None:
    """The data set without its annotations, its features and text being None if they cannot be opened."""
    parts: dict[str, Any] = {}
    for name, registry in (("features", DATASETS), ("text", TRANSFORMS)):
        if isinstance(node.get(name), Mapping):
            parts[name] = None
            with report.collecting(f"{split} {name}"):
                parts[name] = registry.build(dict(node[name]))
    with report.collecting(f"{split} data set"):
        return DATASETS.build({**node, **parts, "lazy_init": True, "on_error": "skip"})
    return None


def _check_features(split: str, dataset: GroundingDataset, videos: Sequence[dict], report: InputReport) -> bool:
    """Whether the features can be read at all."""
    problems: dict[str, str] | None = None
    vids = list(dict.fromkeys(video["vid"] for video in videos))
    if dataset.features is not None:
        with report.collecting(f"{split} features"):
            problems = dataset.features.find_problems(vids)
    for vid, reason in (problems or {}).items():
        report.add(f"{split} features", f"video {vid}", reason)
    report.splits[split]["videos with features"] = 0 if problems is None else len(vids) - len(problems)
    return problems is not None


def _check_sentences(split: str, dataset: GroundingDataset, queries: Sequence[dict], report: InputReport) -> bool:
    """Whether sentences can be encoded at all."""
    problems: dict[int, str] | None = None
    if dataset.text is not None:
        with report.collecting(f"{split} text"):
            problems = dataset.text.prepare([(query["sentence"], query["qid"]) for query in queries])
    for place, reason in (problems or {}).items():
        report.add(f"{split} text", f"query {queries[place]['qid']}", reason)
    report.splits[split]["queries with words"] = 0 if problems is None else len(queries) - len(problems)
    return problems is not None


def _usable(split: str, dataset: GroundingDataset, report: InputReport) -> GroundingDataset | None:
    """The data set, after each of its items was made once."""
    try:
        dataset.full_init()
    except ValueError:
        # Nothing is left, for reasons that were reported.
        return None
    made = 0
    for index in track_progress(range(len(dataset)), f"making the items of {split}", "items"):
        with report.collecting(f"{split} items", f"video {dataset.get_data_info(index)['vid']}"):
            dataset.prepare_data(index)
            made += 1
    report.splits[split]["items"] = made
    return dataset if made == len(dataset) else None
