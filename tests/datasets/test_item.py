# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from typing import Any

import numpy as np
import pytest
import torch

from mesm_plugin.datasets import build_item
from mesm_plugin.structures import GroundingDataSample

FEATURES = np.array([[1, 0], [0, 1], [1, 1], [2, 0]], dtype=np.float32)


def _info(**query: Any) -> dict[str, Any]:
    queries = [{"qid": 7, "sentence": "a door", "moments": [[1.0, 2.5]]} | query]
    return {"vid": "v", "source": "s", "duration": 4.0, "sample_idx": 3, "queries": queries}


def test_labelled_item(length_text: Any) -> None:
    item = build_item(_info(), FEATURES, length_text, clip_length=1.0)
    assert item.keys() == {"sample_idx", "source", "video", "queries", "data_sample"}
    assert (item["sample_idx"], item["source"]) == (3, "s")
    assert item["video"].dtype == torch.float32
    assert item["video"].tolist() == [[1, 0, 0, 0.25], [0, 1, 0.25, 0.5], [1, 1, 0.5, 0.75], [2, 0, 0.75, 1]]
    (query,) = item["queries"]
    assert query["words"].tolist() == [[1], [4]]
    assert query["moments"].dtype == torch.float32
    assert query["moments"].tolist() == [[0.25, 0.625]]
    assert query["segment_mask"].tolist() == [False, True, True, False]
    assert query["saliency"].tolist() == [0, 1, 1, 0]
    sample = item["data_sample"]
    assert isinstance(sample, GroundingDataSample)
    assert (sample.vid, sample.source, sample.duration, sample.num_clips) == ("v", "s", 4.0, 4)
    assert (sample.qids, sample.sentences) == ([7], ["a door"])
    assert sample.gt_moments[0].dtype == np.float64
    assert sample.gt_moments[0].tolist() == [[1.0, 2.5]]


def test_without_endpoint_features(length_text: Any) -> None:
    item = build_item(_info(), FEATURES, length_text, clip_length=1.0, tef=False)
    assert item["video"].tolist() == FEATURES.tolist()


def test_pooled_item_has_endpoint_features_of_the_pooled_clips(length_text: Any) -> None:
    item = build_item(_info(), FEATURES, length_text, clip_length=1.0, max_clips=2)
    # The last clip takes part in no mean: see pool_bounds.
    assert item["video"].tolist() == [[0.5, 0.5, 0, 0.5], [1, 1, 0.5, 1]]
    assert item["data_sample"].num_clips == 2
    assert item["queries"][0]["segment_mask"].tolist() == [True, True]


def test_unlabelled_item(length_text: Any) -> None:
    info = _info()
    del info["queries"][0]["moments"]
    item = build_item(info, FEATURES, length_text, clip_length=1.0)
    assert item["queries"][0].keys() == {"words", "words_weight"}
    assert "gt_moments" not in item["data_sample"]


def test_moments_are_not_clipped_and_several_are_kept(length_text: Any) -> None:
    item = build_item(_info(moments=[[0.0, 1.0], [3.0, 5.0]]), FEATURES, length_text, clip_length=1.0)
    assert item["queries"][0]["moments"].tolist() == [[0, 0.25], [0.75, 1.25]]
    assert item["queries"][0]["segment_mask"].tolist() == [True, True, False, True]


def test_graded_clips(length_text: Any) -> None:
    graded = {"relevant_clips": [1, 2], "grades": [[4, 4, 3], [0, 1, 0]]}
    item = build_item(_info(**graded), FEATURES, length_text, clip_length=1.0)
    (query,) = item["queries"]
    assert query["segment_mask"].tolist() == [False, True, True, False]
    assert query["saliency"].dtype == torch.float32
    assert query["saliency"].tolist() == [0, 11, 1, 0]
    assert query["extreme_clips"].tolist() == [1, 2]
    assert item["data_sample"].gt_clips[0].tolist() == [1, 2]
    assert item["data_sample"].gt_grades[0].tolist() == [[4, 4, 3], [0, 1, 0]]


def test_graded_clips_are_not_pooled(length_text: Any) -> None:
    graded = {"relevant_clips": [1], "grades": [[4, 4, 3]]}
    with pytest.raises(ValueError, match=r"video v has 4 clips, max_clips is 2: graded clips cannot be pooled, cut"):
        build_item(_info(**graded), FEATURES, length_text, clip_length=1.0, max_clips=2)


def test_moments_over_the_seconds_of_the_clips(length_text: Any) -> None:
    item = build_item(_info(), FEATURES, length_text, clip_length=0.5, divide_by_clips=True)
    assert item["queries"][0]["moments"].tolist() == [[0.5, 1.25]]


def test_empty_list_of_moments(length_text: Any) -> None:
    with pytest.raises(ValueError, match="query 7 of video v has an empty list of moments"):
        build_item(_info(moments=[]), FEATURES, length_text, clip_length=1.0)


def test_no_queries(length_text: Any) -> None:
    with pytest.raises(ValueError, match="video v has no queries"):
        build_item(_info() | {"queries": []}, FEATURES, length_text, clip_length=1.0)
