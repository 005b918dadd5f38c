# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What the data sets make of the published annotations, beside what the released code makes of them.

The expected numbers were computed by running the released data sets on the same files, with as many clips a video as
its duration has whole seconds (QVHighlights: whole pairs of seconds), so that no video of Charades is pooled: there the
two differ on purpose (docs/paper_vs_code.md).
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mesm_plugin.datasets.clips import clips_inside
from mesm_plugin.datasets.dataset_names import published_dataset
from mesm_plugin.datasets.grades import fit_grades

MOMENTS = {
    # Data set, split, clip length: queries; sums over them of first clip, last clip and number of clips inside; sum of
    # (first + last) times the place of the query among those of its video, from 1.
    ("charades", "train", 1.0): (12405, 127264, 225463, 110604, 846576),
    ("charades", "train", None): (12405, 124544, 222140, 110001, 833075),
    ("charades", "test", 1.0): (3720, 34488, 62626, 31858, 285803),
    ("charades", "test", None): (3720, 33745, 61720, 31695, 281419),
    ("charades_cg", "train", 1.0): (8281, 80832, 146162, 73611, 558356),
    ("charades_cg", "test_trivial", 1.0): (3096, 30204, 54966, 27858, 172010),
    ("charades_cg", "novel_composition", 1.0): (3442, 37632, 63021, 28831, 140285),
    ("charades_cg", "novel_word", 1.0): (695, 6836, 12819, 6678, 23442),
    ("charades_cd", "train", 1.0): (11071, 104562, 187736, 94245, 751174),
    ("charades_cd", "val", 1.0): (859, 8861, 15569, 7567, 62326),
    ("charades_cd", "test_iid", 1.0): (823, 8234, 14290, 6879, 62708),
    ("charades_cd", "test_ood", 1.0): (3372, 40095, 70948, 34225, 257461),
    ("tacos", "train", None): (9790, 769721, 977220, 217289, 198506066),
    ("tacos", "test", None): (4001, 460180, 578296, 122117, 133951437),
}
GRADES = {
    # Queries, moments, sum of their normalised ends, sum of the saliency, the same weighted by the clip from 1, graded
    # clips without those that all graded 0.
    "train": (7218, 12803, 12815.14, 1434092, 54442814, 160408),
    "val": (1550, 2803, 2808.467, 286221, 10864272, 32516),
}
MAX_CLIPS = {"charades": 194, "charades_cg": 194, "charades_cd": 194, "tacos": 600}


@pytest.mark.parametrize(("name", "split", "clip_length"), MOMENTS)
def test_clips_of_the_moments(shared: Path, name: str, split: str, clip_length: float | None) -> None:
    dataset = published_dataset(name, shared / "data").open(split)
    dataset.clip_length = clip_length
    sums = np.zeros(5, dtype=np.int64)
    for video in dataset.load_data_list():
        clips = max(1, int(video["duration"]))
        for place, query in enumerate(video["queries"], 1):
            moments = np.array(query["moments"])
            inside = clips_inside(moments, video["duration"], clips, clip_length, MAX_CLIPS[name])
            first, *_, last = [*np.flatnonzero(inside)] * 2
            sums += (1, first, last, inside.sum(), place * (first + last))
    assert tuple(sums.tolist()) == MOMENTS[name, split, clip_length]


@pytest.mark.parametrize("split", GRADES)
def test_grades(shared: Path, split: str) -> None:
    sums: Any = np.zeros(6)
    for video in published_dataset("qvhighlights", shared / "data").read(split):
        clips = int(video["duration"] / 2)
        for query in video["queries"]:
            moments = np.array(query["moments"]) / (2 * clips)
            saliency = fit_grades(query["relevant_clips"], query["grades"], clips).saliency
            weighted = saliency @ np.arange(1, clips + 1)
            sums += (1, len(moments), moments.sum(), saliency.sum(), weighted, (saliency > 0).sum())
    assert tuple(sums) == pytest.approx(GRADES[split], abs=1e-2)
