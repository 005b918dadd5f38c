# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Charades-CD from its published files."""

from typing import ClassVar

from mesm_plugin.datasets.json_dataset import JSONDataset
from mesm_plugin.datasets.video_entry import VideoEntry
from mesm_plugin.registry import DATASETS


@DATASETS.register_module()
class CharadesCDDataset(JSONDataset):
    """Charades-CD: Charades-STA divided anew by where in the video moments lie (Yuan et al., HUMA 2021).

    Moments of `charades_test_iid` are distributed as in `charades_train`, those of `charades_test_ood` are not.

    Args:
        ann_file: `charades_train.json`, `charades_val.json`, `charades_test_iid.json` or `charades_test_ood.json`, or
            several of them.
        kwargs: See `JSONDataset`.
    """

    METAINFO: ClassVar[dict] = {"dataset_type": "charades_cd", "task_name": "moment_retrieval"}

    def read_extent(self, entry: VideoEntry) -> tuple[float, float]:
        """See `JSONDataset.read_extent`."""
        return entry.positive("video_duration"), 1.0
