# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Annotated queries by id."""

import copy

import numpy as np
import pytest
from mmengine.registry import DATASETS

from mesm_plugin.apis import GroundingInferencer
from mesm_plugin.apis.annotated_queries import AnnotatedQueries
from mesm_plugin.datasets import MissingFeaturesError, SyntheticDataset, collate_grounding
from mesm_plugin.engine.config_loading import ConfigError


@pytest.fixture(scope="module")
def inferencer(config, checkpoint):
    return GroundingInferencer(config, checkpoint)


def lazy(**options):
    return SyntheticDataset(split="test", num_videos=2, lazy_init=True, **options)


def test_place_of_every_query():
    dataset = lazy()
    queries = AnnotatedQueries(dataset)
    for number, qid in enumerate(queries.qids):
        index, place = queries.place(qid)
        assert dataset.get_data_info(index)["queries"][place]["qid"] == qid
        assert queries.place(str(qid)) == (index, place)
        assert number == qid


def test_videos_of_many_queries_are_several_items():
    dataset = lazy(max_queries=1)
    queries = AnnotatedQueries(dataset)
    assert [queries.place(qid) for qid in queries.qids] == [(index, 0) for index in range(len(dataset))]


def test_unknown_and_repeated_ids(monkeypatch):
    with pytest.raises(ValueError, match="SyntheticDataset has no query with the id 99; it has "):
        AnnotatedQueries(lazy()).place(99)
    load = SyntheticDataset.load_data_list

    def all_zero(self):
        videos = load(self)
        for video in videos:
            video["queries"] = [{**query, "qid": 0} for query in video["queries"]]
        return videos

    monkeypatch.setattr(SyntheticDataset, "load_data_list", all_zero)
    with pytest.raises(ValueError, match=r"SyntheticDataset has \d+ queries with the id 0"):
        AnnotatedQueries(lazy()).place(0)


def test_a_query_is_grounded_as_in_testing(inferencer, config):
    item = DATASETS.build(config.test_dataloader.dataset)[1]
    expected = inferencer.model.test_step(collate_grounding([item], training=False))[0]
    for place, qid in enumerate(expected.qids):
        sample = inferencer.ground_query(qid)
        assert (sample.qids, sample.sentences) == ([qid], [expected.sentences[place]])
        assert np.array_equal(sample.gt_moments, [expected.gt_moments[place]])
        assert np.allclose(sample.pred_moments[0], expected.pred_moments[place], atol=1e-5)
        assert np.allclose(sample.pred_saliency[0], expected.pred_saliency[place], atol=1e-5)


def test_only_the_features_of_the_query_are_needed(config, checkpoint, monkeypatch):
    inferencer = GroundingInferencer(config, checkpoint)
    features = type(inferencer.dataset.features)
    read, contains = features.__getitem__, features.__contains__
    kept = "synthetic_test_00000"

    def getitem(self, vid):
        if vid != kept:
            raise MissingFeaturesError(f"no features of video {vid}")
        return read(self, vid)

    monkeypatch.setattr(features, "__getitem__", getitem)
    monkeypatch.setattr(features, "__contains__", lambda self, vid: vid == kept and contains(self, vid))
    assert inferencer.ground_query(0).vid == kept
    with pytest.raises(MissingFeaturesError, match="no features of video synthetic_test_00001"):
        inferencer.ground_query(inferencer.queries.qids[-1])


def test_splits(config, checkpoint):
    for split in ("train", "val"):
        changed = copy.deepcopy(config)
        changed[f"{split}_dataloader"].dataset.update(feature_dim=8, word_dim=8, num_videos=1)
        assert GroundingInferencer(changed, checkpoint, split=split).ground_query(0).vid == f"synthetic_{split}_00000"
    bare = copy.deepcopy(config)
    for key in ("val_dataloader", "val_cfg", "val_evaluator"):
        bare.pop(key)
    with pytest.raises(ConfigError, match="has no val_dataloader"):
        GroundingInferencer(bare, checkpoint, split="val")
