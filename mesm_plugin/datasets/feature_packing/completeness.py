# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Whether features are there for all that a data set's annotations name."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesm_plugin.datasets.charades_cd import CharadesCDDataset
from mesm_plugin.datasets.charades_cg import CharadesCGDataset
from mesm_plugin.datasets.charades_sta import CharadesSTADataset
from mesm_plugin.datasets.dataset_names import published_dataset
from mesm_plugin.datasets.files import read_json, require_file
from mesm_plugin.datasets.grounding_dataset import GroundingDataset
from mesm_plugin.datasets.qvhighlights import QVHighlightsDataset
from mesm_plugin.datasets.tacos import TACoSDataset


@dataclass
class Needed:
    """What annotations name.

    Attributes:
        durations: Seconds of each video.
        sentences: Of each query, by its id.
        ambiguous: Ids of queries that two splits have for different sentences.
        splits: Where it was read from, for messages.
    """

    durations: dict[str, float] = field(default_factory=dict)
    sentences: dict[str, str] = field(default_factory=dict)
    ambiguous: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)

    def add(self, split: str, videos: Iterable[Mapping[str, Any]]) -> None:
        """Adds the videos of a split, as `load_data_list` of its data set returns them."""
        self.splits.append(split)
        for video in videos:
            self.durations.setdefault(video["vid"], video["duration"])
            for query in video["queries"]:
                qid = str(query["qid"])
                if self.sentences.setdefault(qid, query["sentence"]) != query["sentence"]:
                    self.ambiguous.append(qid)


@dataclass(frozen=True)
class Completeness:
    """Which ids are compared, and how they differ.

    Attributes:
        kind: "video" or "query".
        needed: How many ids the annotations name.
        missing: Of these, those without features.
        extra: Ids with features that the annotations do not name.
    """

    kind: str
    needed: int
    missing: list[str]
    extra: list[str]


def read_needed(
    dataset: str | None = None,
    root: str | os.PathLike[str] | None = None,
    splits: Sequence[str] = (),
    files: Sequence[str | Path] = (),
) -> Needed:
    """Reads what a published data set, or annotation files in the format of one, name.

    Args:
        dataset: Name of a published data set, see `published_dataset`.
        root: Folder of all data sets, see `published_dataset`.
        splits: Of the published data set; all if there are none.
        files: Annotation files: `.jsonl` as those of QVHighlights, `.json` as those of TACoS, Charades-CG or
            Charades-CD, `.txt` as those of Charades-STA, whose durations are in the next `.csv` here or in
            `Charades_v1_SPLIT.csv` beside it.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: There is no such data set or split, or a file is broken; the message names the place.
    """
    needed = Needed()
    if dataset is not None:
        published = published_dataset(dataset, root)
        for split in splits or published.splits:
            needed.add(f"{published.title} {split}", published.read(split))
    tables = [path for path in map(Path, files) if path.suffix.lower() == ".csv"]
    for path in map(Path, files):
        if path.suffix.lower() != ".csv":
            needed.add(str(path), _annotations(path, tables).load_data_list())
    return needed


def check_completeness(ids: Iterable[str], needed: Needed, kind: str | None = None) -> Completeness:
    """Compares the ids that have features with those that annotations name.

    Args:
        ids: That have features.
        needed: What the annotations name.
        kind: "video" or "query", whichever the ids are of; None for that of which more are needed ones.

    Raises:
        ValueError: The ids of queries are not unique over the splits.
    """
    held = set(ids)
    if kind is None:
        kind = "query" if len(held & needed.sentences.keys()) > len(held & needed.durations.keys()) else "video"
    if kind == "query" and needed.ambiguous:
        raise ValueError(
            f"query {needed.ambiguous[0]} is another sentence in each of {', '.join(needed.splits)}, so that one file "
            "cannot hold them all; pack each split into a file of its own (--split)"
        )
    wanted = needed.sentences.keys() if kind == "query" else needed.durations.keys()
    order = _in_natural_order if kind == "query" else sorted
    return Completeness(kind, len(wanted), order(wanted - held), order(held - wanted))


def odd_lengths(
    lengths: Mapping[str, int], durations: Mapping[str, float], clip_length: float, most: float = 2.0
) -> list[str]:
    """Videos whose number of clips is not their duration over the length of a clip.

    Args:
        lengths: Clips of each video.
        durations: Of the videos, in seconds.
        clip_length: In seconds.
        most: So many clips more or less are right.
    """
    return [
        vid for vid, count in lengths.items() if vid in durations and abs(count - durations[vid] / clip_length) > most
    ]


def _annotations(path: Path, tables: Sequence[Path]) -> GroundingDataset:
    require_file(path, "annotation file")
    parts: dict[str, Any] = {"features": None, "text": None, "lazy_init": True, "ann_file": str(path)}
    ending = path.suffix.lower()
    if ending == ".jsonl":
        return QVHighlightsDataset(**parts)
    if ending == ".txt":
        split = path.stem.rpartition("_")[2]
        table = next((table for table in tables if split in table.stem), None) or (tables[0] if tables else None)
        return CharadesSTADataset(
            **parts, clip_length=1.0, duration_file=str(table or path.with_name(f"Charades_v1_{split}.csv"))
        )
    if ending == ".json":
        entries = read_json(path)
        values = entries.values() if isinstance(entries, dict) else ()
        keys = {key for entry in values if isinstance(entry, dict) for key in entry}
        if "fps" in keys:
            return TACoSDataset(**parts, clip_length=None)
        return (CharadesCDDataset if "video_duration" in keys else CharadesCGDataset)(**parts, clip_length=1.0)
    raise ValueError(f"--annotations {path}: expected a file of the kind .jsonl, .json or .txt (and .csv of durations)")


def _in_natural_order(ids: Iterable[str]) -> list[str]:
    """Sorted, with the numbers in ids by their value: "val-9" before "val-10"."""
    return sorted(ids, key=lambda id_: [part.zfill(12) if part.isdigit() else part for part in re.split(r"(\d+)", id_)])
