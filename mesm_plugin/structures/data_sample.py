# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The data sample of video grounding: one video with all its queries."""

import numpy as np
from mmengine.structures import BaseDataElement


class GroundingDataSample(BaseDataElement):
    """One video with its K queries: what is asked, what is true, what was predicted.

    Metainfo: `vid` and `source` (str), `duration` (seconds), `num_clips`, `qids` (list of K), `sentences` (list of K
    str) and, where the data set is labelled, `gt_moments` (list of K float64 arrays (M, 2), seconds); where it can have
    several splits, the name of the sample's `split`. Where clips are graded, `gt_clips` (list of K int64 arrays (n,),
    the clips inside the moments) and `gt_grades` (list of K int64 arrays (n, annotators)).

    Data fields, set by a grounder: `pred_moments`, a list of K arrays (N, 3) with start and end in seconds and score,
    best first; `pred_saliency`, a list of K arrays (num_clips,).
    """

    pred_moments: list[np.ndarray]
    pred_saliency: list[np.ndarray]
