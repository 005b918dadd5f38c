# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""From an annotated video and its features to what a data set returns."""

from typing import Any

import numpy as np
import torch

from mesm_plugin.datasets.clips import clips_inside, endpoint_features, pool_clips
from mesm_plugin.datasets.grades import fit_grades
from mesm_plugin.datasets.text.encoder import TextEncoder
from mesm_plugin.structures import GroundingDataSample


def build_item(
    info: dict[str, Any],
    features: np.ndarray,
    text: TextEncoder,
    *,
    clip_length: float | None,
    max_clips: int | None = None,
    tef: bool = True,
    divide_by_clips: bool = False,
) -> dict[str, Any]:
    """One video with all its queries, as `collate_grounding` takes it.

    Args:
        info: `vid`, `source`, `duration` (seconds), `sample_idx`, where the data set has several splits `split`, and
            `queries`, a list of dicts with `qid`, `sentence` and, where labelled, `moments` (M, 2) in seconds; where
            the clips of the moments are graded, their indices `relevant_clips` (n,) and `grades` (n, annotators).
        features: (Lv, Dv) float32, before pooling.
        text: Encodes the sentences.
        clip_length: Seconds of a clip; None if the clips divide the duration evenly.
        max_clips: Longer videos are pooled to so many clips.
        tef: Appends the two temporal endpoint features to the channels.
        divide_by_clips: Divides moments by the seconds that the clips cover, not by the duration, which differs where
            the features are a clip off; needs `clip_length`.

    Returns:
        `sample_idx`, `source`, `video` (Lv, Dv) float32, `queries` and `data_sample`. A query has `words` (Lw, Dt)
        float32, `words_weight` (Lw,) float32, with a vocabulary `words_label` (Lw,) int64 and `unknown_words` (Lw,)
        bool, and, where labelled, `moments` (M, 2) float32, normalised and not clipped, `segment_mask`
        (Lv,) bool and `saliency` (Lv,) float32: the sum of the grades, or 1 inside and 0 outside. With grades,
        `segment_mask` is True on the graded clips, and `extreme_clips` (2,) int64 are those graded highest and lowest.

    Raises:
        ValueError: There is no query, one has an empty list of moments or cannot be encoded, or clips are to be pooled
            that are graded.
    """
    video = pool_clips(features, max_clips)
    if tef:
        video = np.concatenate((video, endpoint_features(len(video))), axis=1)

    if not info["queries"]:
        raise ValueError(f"video {info['vid']} has no queries")
    duration, labelled = info["duration"], "moments" in info["queries"][0]
    extent = len(video) * clip_length if divide_by_clips and clip_length is not None else duration
    queries, gt_moments, gt_clips, gt_grades = [], [], [], []
    for query in info["queries"]:
        item = text.encode(query["sentence"], query["qid"])
        if labelled:
            moments = np.asarray(query["moments"], dtype=np.float64).reshape(-1, 2)
            if len(moments) == 0:
                raise ValueError(f"query {query['qid']} of video {info['vid']} has an empty list of moments")
            gt_moments.append(moments)
            if "grades" in query:
                if len(video) < len(features):
                    raise ValueError(
                        f"video {info['vid']} has {len(features)} clips, max_clips is {max_clips}: graded clips cannot "
                        "be pooled, cut the features"
                    )
                mask, saliency, extremes = fit_grades(query["relevant_clips"], query["grades"], len(video))
                item["extreme_clips"] = torch.from_numpy(extremes)
                gt_clips.append(np.asarray(query["relevant_clips"], dtype=np.int64))
                gt_grades.append(np.asarray(query["grades"], dtype=np.int64))
            else:
                mask = clips_inside(moments, duration, len(features), clip_length, max_clips)
                saliency = mask.astype(np.float32)
            item["moments"] = torch.from_numpy((moments / extent).astype(np.float32))
            item["segment_mask"] = torch.from_numpy(mask)
            item["saliency"] = torch.from_numpy(saliency)
        queries.append(item)

    metainfo = {
        "vid": info["vid"],
        "source": info["source"],
        "duration": duration,
        "num_clips": len(video),
        "qids": [query["qid"] for query in info["queries"]],
        "sentences": [query["sentence"] for query in info["queries"]],
    }
    if "split" in info:
        metainfo["split"] = info["split"]
    if labelled:
        metainfo["gt_moments"] = gt_moments
    if gt_grades:
        metainfo |= {"gt_clips": gt_clips, "gt_grades": gt_grades}
    return {
        "sample_idx": info["sample_idx"],
        "source": info["source"],
        "video": torch.from_numpy(video),
        "queries": queries,
        "data_sample": GroundingDataSample(metainfo=metainfo),
    }
