# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""TACoS from its published files."""

import math
from typing import Any, ClassVar

from mesm_plugin.datasets.json_dataset import JSONDataset
from mesm_plugin.datasets.video_entry import VideoEntry
from mesm_plugin.registry import DATASETS


@DATASETS.register_module()
class TACoSDataset(JSONDataset):
    """TACoS: long cooking videos with up to hundreds of sentences each (Regneri et al., TACL 2013).

    Moments are published as frames: times are frames / `fps`, the duration is `num_frames` / `fps`. In the released
    MESM code an item has at most 10 queries of a video, in training and in evaluation.

    Args:
        ann_file: `train.json`, `val.json` or `test.json`, or several of them.
        max_queries: Of an item; see `GroundingDataset`.
        kwargs: See `JSONDataset`.
    """

    METAINFO: ClassVar[dict] = {"dataset_type": "tacos", "task_name": "moment_retrieval"}

    def __init__(self, *, max_queries: int | None = 10, **kwargs: Any) -> None:
        super().__init__(max_queries=max_queries, **kwargs)

    def read_extent(self, entry: VideoEntry) -> tuple[float, float]:
        """See `JSONDataset.read_extent`."""
        fps, frames = entry.positive("fps"), entry.positive("num_frames")
        duration = frames / fps
        if not 0 < duration < math.inf:
            raise ValueError(
                f"{entry.where}: 'num_frames' is {frames} and 'fps' {fps}, expected a video of some seconds"
            )
        return duration, fps
