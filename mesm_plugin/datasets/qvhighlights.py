# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""QVHighlights from its published files."""

from typing import Any, ClassVar

import numpy as np
from mmengine.logging import print_log

from mesm_plugin.datasets.files import parse_json_line, read_lines, require_file
from mesm_plugin.datasets.grounding_dataset import GroundingDataset
from mesm_plugin.datasets.qvhighlights_record import QVHighlightsRecord, parse_record
from mesm_plugin.registry import DATASETS


@DATASETS.register_module()
class QVHighlightsDataset(GroundingDataset):
    """QVHighlights: sentences with one or more moments and graded clips (Lei et al., NeurIPS 2021).

    A video is a clip sequence of up to 150 s, named by its source video and the seconds that it was cut from:
    "source_60.0_210.0". The sequences of a source follow one another, in order of their start, so that
    `SourceBatchSampler` can keep them in one batch. Three annotators graded each clip of a moment from 0 to 4. A file
    without moments and grades, as `highlight_test_release.jsonl`, can be predicted, not scored.

    The published files need no repair, so whatever does not fit is an error.

    Args:
        ann_file: `highlight_train_release.jsonl`, or that of another split: one JSON object a line.
        clip_length: Seconds of an annotated clip, and of a clip of the features.
        max_clips: Longer features are cut off behind so many clips, not pooled as in other data sets, since pooled
            clips have no grades; None for no limit.
        kwargs: See `GroundingDataset`.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: A line is malformed or contradicts an earlier one; the message names file, line and key.
    """

    METAINFO: ClassVar[dict] = {"dataset_type": "qvhighlights", "task_name": "moment_retrieval"}
    # As in Moment-DETR and after it; they, too, multiply predictions by the duration.
    divide_by_clips = True

    def __init__(self, *, ann_file: str, clip_length: float = 2.0, max_clips: int | None = 75, **kwargs: Any) -> None:
        if clip_length is None:
            raise ValueError("clip_length is None, expected the seconds of an annotated clip (2.0 as published)")
        super().__init__(ann_file=ann_file, clip_length=clip_length, max_clips=max_clips, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One dict per clip sequence; its queries in order of the file."""
        path = require_file(self.ann_file, "annotation file")
        assert self.clip_length is not None
        records: list[QVHighlightsRecord] = []
        of_qid: dict[int | str, int] = {}
        durations: dict[str, float] = {}
        for number, line in enumerate(read_lines(path), 1):
            where = f"{path}:{number}"
            with self.reading(where):
                record = parse_record(parse_json_line(line, where), where, self.clip_length)
                if record.qid in of_qid:
                    raise ValueError(
                        f"{where}: 'qid' is {record.qid!r} as on line {of_qid[record.qid]}, expected another id"
                    )
                duration = durations.setdefault(record.vid, record.duration)
                if record.duration != duration:
                    raise ValueError(f"{where}: 'duration' is {record.duration}, but {duration} above for {record.vid}")
                if records and (record.moments is None) != (records[0].moments is None):
                    has = "missing" if record.moments is None else "there"
                    raise ValueError(f"{where}: 'relevant_windows' is {has}, unlike on the lines above; split the file")
                of_qid[record.qid] = number
                records.append(record)

        videos: dict[str, dict[str, Any]] = {}
        # Sources keep their order of appearance.
        rank = {source: i for i, source in enumerate(dict.fromkeys(record.source for record in records))}
        for record in sorted(records, key=lambda record: (rank[record.source], record.start)):
            new = {"vid": record.vid, "source": record.source, "duration": float(record.duration), "queries": []}
            query: dict[str, Any] = {"qid": record.qid, "sentence": record.sentence}
            if record.moments is not None:
                query |= {"moments": record.moments, "relevant_clips": record.clips, "grades": record.grades}
            videos.setdefault(record.vid, new)["queries"].append(query)
        moments = sum(len(record.moments or ()) for record in records)
        print_log(
            f"{path}: {len(records)} queries of {len(videos)} clip sequences of {len(rank)} videos; "
            + (f"{moments} moments" if moments else "no labels"),
            logger="current",
        )
        return list(videos.values())

    def read_features(self, vid: str) -> np.ndarray:
        """See `GroundingDataset.read_features`; cut off behind `max_clips`."""
        return super().read_features(vid)[: self.max_clips]
