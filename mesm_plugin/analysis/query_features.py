# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What a grounder with MESM's aligner makes of a query and of the clips inside its moment."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mesm_plugin.apis import GroundingInferencer
from mesm_plugin.datasets import collate_grounding
from mesm_plugin.models.aligners import MESMAligner
from mesm_plugin.models.grounders.detr_grounder import GrounderOutput
from mesm_plugin.structures import GroundingDataSample


class FeatureError(ValueError):
    """A model or a data set that has not the features that an analysis needs."""


@dataclass
class QueryFeatures:
    """Features of one query in the common space of D channels.

    Attributes:
        qid: Of the query.
        vid: Of the video.
        sentence: What was asked.
        words: (Lw, D), F_q.
        enhanced_words: (Lw + 1, D), F_q^enh with the generated token first; None without SS-MESM.
        segment: (Ls, D), F_v of the clips inside the moment.
        enhanced_segment: (Ls, D), F_v^enh of these clips; None without FW-MESM.
    """

    qid: int | str
    vid: str
    sentence: str
    words: np.ndarray
    enhanced_words: np.ndarray | None
    segment: np.ndarray
    enhanced_segment: np.ndarray | None


def query_features(
    inferencer: GroundingInferencer, qids: Sequence[int | str], batch_size: int = 8
) -> Iterator[QueryFeatures]:
    """Computes the features of queries of the inferencer's data set, as testing does.

    Queries without a clip inside their moment are left out.

    Args:
        inferencer: Of a model with a `MESMAligner`.
        qids: Of the queries.
        batch_size: Videos a batch.

    Yields:
        Features of each query, by video.

    Raises:
        FeatureError: The model has another aligner, or the data set has no moments.
        ValueError: There is no such query.
    """
    aligner = inferencer.model.aligner
    if not isinstance(aligner, MESMAligner):
        raise FeatureError(
            f"{inferencer.name} aligns with {type(aligner).__name__}; this analysis compares the features that a "
            "MESMAligner enhances: give a config with aligner=dict(type='MESMAligner')"
        )
    wanted: dict[int, list[int]] = {}
    for qid in qids:
        index, place = inferencer.queries.place(qid)
        wanted.setdefault(index, []).append(place)
    indices = sorted(wanted)
    items = inferencer.items(indices)
    for begin in range(0, len(indices), batch_size):
        chosen = indices[begin : begin + batch_size]
        loaded = list(itertools.islice(items, len(chosen)))
        if "moments" not in loaded[0]["queries"][0]:
            name = inferencer.dataset.ann_file or "the data set"
            raise FeatureError(f"{name} has no moments, which say where the segments are: choose another split")
        batch = inferencer.model.data_preprocessor(collate_grounding(loaded, training=False), False)
        with torch.inference_mode():
            output = inferencer.model(**batch, mode="tensor")
        row = 0
        for index, item in zip(chosen, loaded, strict=True):
            for place in wanted[index]:
                features = _of_query(output, batch["inputs"], row + place, item["data_sample"], place, aligner)
                if len(features.segment):
                    yield features
            row += len(item["queries"])


def _of_query(
    output: GrounderOutput,
    inputs: dict[str, torch.Tensor],
    row: int,
    sample: GroundingDataSample,
    place: int,
    aligner: MESMAligner,
) -> QueryFeatures:
    video = int(inputs["query_video"][row])
    inside = inputs["segment_mask"][row] & inputs["video_mask"][video]
    enhanced = output.aligned.extra.get("enhanced_clips")

    def rows(features: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
        return features[mask].double().cpu().numpy()

    return QueryFeatures(
        qid=sample.qids[place],
        vid=sample.vid,
        sentence=sample.sentences[place],
        words=rows(output.projected.words[row], inputs["words_mask"][row]),
        enhanced_words=None
        if aligner.segment_sentence is None
        else rows(output.aligned.words[row], output.aligned.words_mask[row]),
        segment=rows(output.projected.clips[video], inside),
        # The first pairs are those of the queries with their videos, in order.
        enhanced_segment=None if enhanced is None else rows(enhanced[row], inside),
    )
