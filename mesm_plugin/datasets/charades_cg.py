# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Charades-CG from its published files."""

from typing import ClassVar

from mesm_plugin.datasets.json_dataset import JSONDataset
from mesm_plugin.datasets.video_entry import VideoEntry
from mesm_plugin.registry import DATASETS


@DATASETS.register_module()
class CharadesCGDataset(JSONDataset):
    """Charades-CG: Charades-STA divided anew to test compositional generalisation (Li et al., CVPR 2022).

    The test splits hold known words in known combinations (`test_trivial`), known words in new combinations
    (`novel_composition`), and new words (`novel_word`). They share videos with one another, not with `train`.

    Args:
        ann_file: `train.json`, `test_trivial.json`, `novel_composition.json` or `novel_word.json`, or several of them.
        kwargs: See `JSONDataset`.
    """

    METAINFO: ClassVar[dict] = {"dataset_type": "charades_cg", "task_name": "moment_retrieval"}

    def read_extent(self, entry: VideoEntry) -> tuple[float, float]:
        """See `JSONDataset.read_extent`."""
        return entry.positive("duration"), 1.0
