# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Data sets that are published as a JSON object of videos."""

import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mesm_plugin.datasets.files import read_json, require_file
from mesm_plugin.datasets.grounding_dataset import GroundingDataset
from mesm_plugin.datasets.holdout import Holdout
from mesm_plugin.datasets.moment_repair import MomentRepair
from mesm_plugin.datasets.video_entry import VideoEntry


class JSONDataset(GroundingDataset):
    """Splits of one JSON file each: an object with an entry per video, which has `timestamps` and `sentences`.

    A split is named by its file without the extension. The id of a query is that name and the number of the sentence in
    the file, from 1: "novel_word-12". Several splits in one data set stay apart: the item of a video has the queries of
    one split, whose name its data sample has as `split`.

    Moments are repaired as `MomentRepair` says, counted in one line of the log per file.

    Args:
        ann_file: The file of the split, or those of several.
        holdout: None for all videos, "val" for those held out, "train" for the others; see `Holdout`.
        holdout_fraction: Expected share of the videos held out.
        kwargs: See `GroundingDataset`. `strict=True` raises on the first moment that needs repair.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: A file is not JSON, two splits have the same name, or an entry does not fit; the message names file,
            video, sentence and key.
    """

    def __init__(
        self,
        *,
        ann_file: str | Sequence[str],
        holdout: str | None = None,
        holdout_fraction: float = 0.1,
        **kwargs: Any,
    ) -> None:
        self.ann_files = [ann_file] if isinstance(ann_file, str) else list(ann_file)
        if not self.ann_files:
            raise ValueError("ann_file is an empty list, expected the files of one split or more")
        names = [Path(file).stem for file in self.ann_files]
        if len(set(names)) < len(names):
            raise ValueError(f"ann_file has files of the same name ({', '.join(names)}), which names their splits")
        self.holdout = holdout
        self._included = Holdout(holdout, holdout_fraction)
        super().__init__(**kwargs)

    @abstractmethod
    def read_extent(self, entry: VideoEntry) -> tuple[float, float]:
        """Duration of the video in seconds, and how many units of `timestamps` are a second."""

    def load_data_list(self) -> list[dict]:
        """One dict per split and video in order of the files; its queries in order of the clip they start in."""
        self.repairs.clear()
        return [video for file in self.ann_files for video in self._load_split(file)]

    def _join_prefix(self) -> None:
        super()._join_prefix()
        # An absolute path stays as it is.
        self.ann_files = [os.path.join(self.data_root or "", file) for file in self.ann_files]
        self.ann_file = ", ".join(self.ann_files)

    def _load_split(self, file: str) -> list[dict]:
        path = require_file(file, "annotation file")
        entries = read_json(path)
        if not isinstance(entries, dict) or not entries:
            got = "an empty object" if entries == {} else type(entries).__name__
            raise ValueError(f"{path}: expected a JSON object with an entry per video, got {got}")
        repair = MomentRepair(self.strict)
        videos = []
        before = 0
        for vid, value in entries.items():
            place = f"{path}: video {vid!r}"
            count = VideoEntry.count_sentences(value)
            with self.reading(place):
                entry = VideoEntry(value, place)
                duration, rate = self.read_extent(entry)
                queries: list[dict[str, Any]] = []
                for number, (where, (start, end), sentence) in enumerate(entry.sentences(), before + 1):
                    if vid not in self._included:
                        break
                    moment = repair(start / rate, end / rate, duration, sentence, where)
                    if moment is not None:
                        qid = f"{path.stem}-{number}"
                        queries.append({"qid": qid, "sentence": sentence, "moments": [list(moment)]})
                if queries:
                    queries.sort(key=lambda query: self.start_clip(query["moments"][0][0], duration))
                    video = {"vid": vid, "source": vid, "split": path.stem, "duration": duration, "queries": queries}
                    videos.append(video)
            before += count
        kept = sum(len(video["queries"]) for video in videos)
        self.repairs += repair.counts
        print_log(f"{path}: {kept} queries of {len(videos)} videos{self._included}; {repair}", logger="current")
        return videos
