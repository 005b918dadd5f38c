# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""From an annotated video and its features to what a data set returns."""

from typing import Any

import numpy as np
import torch

from mesm_plugin.datasets.clips import clips_inside, endpoint_features, pool_clips
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
) -> dict[str, Any]:
    """One video with all its queries, as `collate_grounding` takes it.

    Args:
        info: `vid`, `source`, `duration` (seconds), `sample_idx` and `queries`, a list of dicts with `qid`, `sentence`
            and, where labelled, `moments` (M, 2) in seconds and `saliency`, one grade per clip (cut or padded with 0 to
            the number of clips, as published grades can be a clip off).
        features: (Lv, Dv) float32, before pooling.
        text: Encodes the sentences.
        clip_length: Seconds of a clip; None if the clips divide the duration evenly.
        max_clips: Longer videos are pooled to so many clips.
        tef: Appends the two temporal endpoint features to the channels.

    Returns:
        `sample_idx`, `source`, `video` (Lv, Dv) float32, `queries` and `data_sample`. A query has `words` (Lw, Dt)
        float32, `words_weight` (Lw,) float32, with a vocabulary `words_label` (Lw,) int64 and `unknown_words` (Lw,)
        bool, and, where labelled, `moments` (M, 2) float32 divided by the duration and not clipped, `segment_mask`
        (Lv,) bool and `saliency` (Lv,) float32.

    Raises:
        ValueError: There is no query, one has an empty list of moments, or cannot be encoded.
    """
    video = pool_clips(features, max_clips)
    if tef:
        video = np.concatenate((video, endpoint_features(len(video))), axis=1)

    if not info["queries"]:
        raise ValueError(f"video {info['vid']} has no queries")
    duration, labelled = info["duration"], "moments" in info["queries"][0]
    queries, gt_moments = [], []
    for query in info["queries"]:
        item = text.encode(query["sentence"], query["qid"])
        if labelled:
            moments = np.asarray(query["moments"], dtype=np.float64).reshape(-1, 2)
            if len(moments) == 0:
                raise ValueError(f"query {query['qid']} of video {info['vid']} has an empty list of moments")
            gt_moments.append(moments)
            mask = clips_inside(moments, duration, len(features), clip_length, max_clips)
            saliency = mask.astype(np.float32)
            if "saliency" in query:
                grades = np.zeros(len(features), dtype=np.float32)
                given = np.asarray(query["saliency"], dtype=np.float32)[: len(features)]
                grades[: len(given)] = given
                saliency = pool_clips(grades, max_clips)
            item["moments"] = torch.from_numpy((moments / duration).astype(np.float32))
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
    if labelled:
        metainfo["gt_moments"] = gt_moments
    return {
        "sample_idx": info["sample_idx"],
        "source": info["source"],
        "video": torch.from_numpy(video),
        "queries": queries,
        "data_sample": GroundingDataSample(metainfo=metainfo),
    }
