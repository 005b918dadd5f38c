# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Charades-STA from its published files."""

import csv
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from mmengine.logging import print_log

from mesm_plugin.datasets.files import read_json, read_lines, require_file, shown
from mesm_plugin.datasets.grounding_dataset import GroundingDataset
from mesm_plugin.datasets.holdout import Holdout
from mesm_plugin.datasets.moment_repair import MomentRepair
from mesm_plugin.registry import DATASETS


@DATASETS.register_module()
class CharadesSTADataset(GroundingDataset):
    """Charades-STA: sentences with one moment each, on videos of indoor activities (Gao et al., ICCV 2017).

    Known quirks of the published annotations are treated as in the released MESM code, and counted in one line of the
    log; see `MomentRepair`. The query id is the line number, from 0, which is what the released code uses on the test
    split.

    A validation split can be held out of the training file by video: "train" and "val" divide the videos by a hash of
    their ids, so that the division depends neither on the machine nor on the order of the file.

    Args:
        ann_file: `charades_sta_train.txt` or `charades_sta_test.txt`: lines "vid start end##sentence", in seconds.
        duration_file: `Charades_v1_train.csv` or `Charades_v1_test.csv`, of which the columns `id` and `length`
            (seconds) count, or a `.json` with the seconds of each video, as MMAction2 has it. A relative path is taken
            from `data_root`, like that of `ann_file`.
        holdout: None for all videos, "val" for those held out, "train" for the others.
        holdout_fraction: Expected share of the videos held out.
        kwargs: See `GroundingDataset`. `strict=True` raises on the first quirk.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: A line is malformed, names a video without duration, or holds a moment that is negative, not a
            number or of length zero; the message names file and line.
    """

    METAINFO: ClassVar[dict] = {"dataset_type": "charades_sta", "task_name": "moment_retrieval"}

    def __init__(
        self,
        *,
        ann_file: str,
        duration_file: str,
        holdout: str | None = None,
        holdout_fraction: float = 0.1,
        **kwargs: Any,
    ) -> None:
        self.duration_file = duration_file
        self.holdout = holdout
        self._included = Holdout(holdout, holdout_fraction)
        super().__init__(ann_file=ann_file, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One dict per video in order of first appearance; its queries in order of the clip they start in."""
        path = require_file(self.ann_file, "annotation file")
        durations = self._load_durations()
        repair = MomentRepair(self.strict)
        self.repairs = repair.counts
        videos: dict[str, dict[str, Any]] = {}
        for number, line in enumerate(read_lines(path)):
            where = f"{path}:{number + 1}"
            with self.reading(where):
                vid, start, end, sentence = self._parse(line, where)
                if vid not in durations:
                    raise ValueError(f"{where}: video {vid} has no duration in {self.duration_file}")
                if vid not in self._included:
                    continue
                duration = durations[vid]
                moment = repair(start, end, duration, sentence, where)
                if moment is not None:
                    video = videos.setdefault(vid, {"vid": vid, "source": vid, "duration": duration, "queries": []})
                    video["queries"].append({"qid": number, "sentence": sentence, "moments": [list(moment)]})
        for video in videos.values():
            video["queries"].sort(key=lambda query: self.start_clip(query["moments"][0][0], video["duration"]))
        queries = sum(len(video["queries"]) for video in videos.values())
        print_log(f"{path}: {queries} queries of {len(videos)} videos{self._included}; {repair}", logger="current")
        return list(videos.values())

    def _join_prefix(self) -> None:
        super()._join_prefix()
        # An absolute path stays as it is.
        self.duration_file = os.path.join(self.data_root or "", self.duration_file)

    def _load_durations(self) -> dict[str, float]:
        path = require_file(self.duration_file, "duration file")
        durations: dict[str, float] = {}
        for where, vid, length in _json_lengths(path) if path.suffix == ".json" else _csv_lengths(path):
            with self.reading(f"{where}, video {vid}"):
                seconds = _seconds(length)
                if not seconds > 0:
                    raise ValueError(f"{where}: the length of video {vid} is {shown(length)}, expected seconds > 0")
                if durations.setdefault(vid, seconds) != seconds:
                    raise ValueError(f"{where}: the length of video {vid} is {length}, but {durations[vid]:g} above")
        return durations

    @staticmethod
    def _parse(line: str, where: str) -> tuple[str, float, float, str]:
        head, separator, sentence = line.partition("##")
        fields = head.split()
        if not separator or len(fields) != 3 or "##" in sentence:
            raise ValueError(f"{where}: {shown(line.rstrip())} is not of the form 'vid start end##sentence'")
        vid, start, end = fields[0], _seconds(fields[1]), _seconds(fields[2])
        if not (start >= 0 and end >= 0):
            raise ValueError(
                f"{where}: the moment is {fields[1][:40]} to {fields[2][:40]}, expected two numbers of seconds >= 0"
            )
        if start == end:
            raise ValueError(
                f"{where}: the moment {fields[1]} to {fields[2]} has length zero; correct or delete the line"
            )
        return vid, start, end, sentence.rstrip()


def _csv_lengths(path: Path) -> Iterator[tuple[str, str, str]]:
    """Place, video and length of each row."""
    rows = csv.DictReader(read_lines(path))
    try:
        if not {"id", "length"} <= set(rows.fieldnames or ()):
            raise ValueError(
                f"{path}:1: the columns are {shown(rows.fieldnames)}, expected 'id' and 'length' among them"
            )
        for row in rows:
            yield f"{path}:{rows.line_num}", row["id"], row["length"]
    except csv.Error as error:
        raise ValueError(f"{path}:{rows.line_num + 1}: not a line of CSV ({error})") from error


def _json_lengths(path: Path) -> Iterator[tuple[str, str, Any]]:
    """Place, video and length of each item."""
    lengths = read_json(path)
    if not isinstance(lengths, dict):
        raise ValueError(f"{path}: expected an object with the seconds of each video, got a {type(lengths).__name__}")
    for vid, length in lengths.items():
        yield str(path), vid, length


def _seconds(text: Any) -> float:
    """A finite number, or NaN for anything else."""
    # Python reads "1_000" and True as numbers.
    if isinstance(text, bool) or (isinstance(text, str) and "_" in text):
        return math.nan
    try:
        value = float(text or "nan")
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return value if math.isfinite(value) else math.nan
