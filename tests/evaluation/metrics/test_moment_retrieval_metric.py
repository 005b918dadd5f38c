# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import json
from collections import defaultdict

import numpy as np
import pytest
from mmengine.evaluator import Evaluator

from mesm_plugin.evaluation import MomentRetrievalMetric, evaluate_moment_retrieval
from mesm_plugin.structures import GroundingDataSample

GROUND_TRUTH = {1: [[0, 10]], 2: [[0, 20], [50, 90]], 3: [[30, 60]]}
PREDICTIONS = {1: [[0, 5, 0.2], [0, 10, 0.9]], 2: [[0, 20, 0.9], [0, 20, 0.8], [50, 90, 0.7]], 3: []}
MEAN_AP = 61.11  # (1 + 5/6 + 0) / 3


def make_sample(vid, qids, predictions, ground_truth, saliency=False):
    """A data sample as a grounder returns it; without `ground_truth` it is unlabelled."""
    metainfo = {
        "vid": vid,
        "source": vid,
        "duration": 100.0,
        "num_clips": 2,
        "qids": qids,
        "sentences": [f"sentence {qid}" for qid in qids],
    }
    if ground_truth is not None:
        metainfo["gt_moments"] = [np.array(ground_truth[qid], dtype=np.float64).reshape(-1, 2) for qid in qids]
    sample = GroundingDataSample(metainfo=metainfo)
    sample.pred_moments = [np.array(predictions[qid], dtype=np.float64).reshape(-1, 3) for qid in qids]
    if saliency:
        sample.pred_saliency = [np.array([0.123456, -1.0], dtype=np.float32) for _ in qids]
    return sample


def make_samples(predictions=PREDICTIONS, ground_truth=GROUND_TRUTH, **kwargs):
    return [
        make_sample("x", [1, 2], predictions, ground_truth, **kwargs),
        make_sample("y", [3], predictions, ground_truth, **kwargs),
    ]


def evaluate(samples, **options):
    """Runs MMEngine's evaluator with a metric built from the root registry, a batch a sample."""
    evaluator = Evaluator(dict(type="MomentRetrievalMetric", **options))
    for sample in samples:
        evaluator.process([sample])
    assert len(evaluator.metrics[0].results) == len(samples)
    return evaluator.evaluate(size=len(samples))


def test_keys_and_numbers():
    metrics = evaluate(make_samples())
    assert metrics == {
        "R1@0.3": 66.67,
        "R1@0.5": 66.67,
        "R1@0.7": 33.33,
        "mIoU": 50.0,
        "mAP@0.5": MEAN_AP,
        "mAP@0.75": MEAN_AP,
        "mAP": MEAN_AP,
        "short/R1@0.3": 100.0,
        "short/R1@0.5": 100.0,
        "short/R1@0.7": 0.0,
        "short/mIoU": 50.0,
        "short/mAP@0.5": 100.0,
        "short/mAP@0.75": 100.0,
        "short/mAP": 100.0,
        "middle/R1@0.3": 50.0,
        "middle/R1@0.5": 50.0,
        "middle/R1@0.7": 50.0,
        "middle/mIoU": 50.0,
        "middle/mAP@0.5": 50.0,
        "middle/mAP@0.75": 50.0,
        "middle/mAP": 50.0,
        "long/R1@0.3": 0.0,
        "long/R1@0.5": 0.0,
        "long/R1@0.7": 0.0,
        "long/mIoU": 0.0,
        "long/mAP@0.5": 33.33,
        "long/mAP@0.75": 33.33,
        "long/mAP": 33.33,
    }
    assert {type(value) for value in metrics.values()} == {float}


def test_options():
    metrics = evaluate(
        make_samples(),
        r1_thresholds=[0.5],
        r5_thresholds=[0.5, 0.7],
        map_thresholds=[],
        length_ranges={"to 15 s": [0, 15]},
        prefix="charades",
    )
    assert metrics == {
        "charades/R1@0.5": 66.67,
        "charades/R5@0.5": 66.67,
        "charades/R5@0.7": 66.67,
        "charades/mIoU": 50.0,
        "charades/mAP": MEAN_AP,
        "charades/to 15 s/R1@0.5": 100.0,
        "charades/to 15 s/R5@0.5": 100.0,
        "charades/to 15 s/R5@0.7": 100.0,
        "charades/to 15 s/mIoU": 50.0,
        "charades/to 15 s/mAP": 100.0,
    }


def test_the_peers_numbers_through_the_evaluator(golden):
    by_video = defaultdict(list)
    for record in golden.ground_truth:
        by_video[record["vid"]].append(record["qid"])
    predictions = {record["qid"]: record["pred_relevant_windows"] for record in golden.predictions}
    moments = {record["qid"]: record["relevant_windows"] for record in golden.ground_truth}
    metrics = evaluate(
        [make_sample(vid, qids, predictions, moments) for vid, qids in by_video.items()],
        r1_thresholds=golden.r1_thresholds,
        map_thresholds=golden.map_thresholds,
    )
    for name in ("full", "short", "middle", "long", "superlong"):
        prefix = "" if name == "full" else f"{name}/"
        expected = golden.expected.get(name)
        if expected is None:
            continue
        for key, value in expected["MR-R1"].items():
            assert metrics[prefix + ("mIoU" if key == "miou" else f"R1@{key}")] == value, (name, key)
        for key, value in expected["MR-mAP"].items():
            assert metrics[prefix + ("mAP" if key == "average" else f"mAP@{key}")] == value, (name, key)


def test_padded_samples_of_several_processes_are_dropped():
    evaluator = Evaluator(MomentRetrievalMetric())
    samples = make_samples()
    evaluator.process([*samples, samples[0]])
    assert evaluator.evaluate(size=2)["mAP"] == MEAN_AP


def test_float32_times_count_as_the_decimals_they_stand_for():
    sample = make_sample("x", [1], {1: [[24.3, 30.4, 0.9]]}, {1: [[24.3, 30.4]]})
    sample.pred_moments = [sample.pred_moments[0].astype(np.float32)]
    assert evaluate([sample], r1_thresholds=[1.0])["R1@1"] == 100.0


def test_submission_scores_the_same(tmp_path):
    path = tmp_path / "submission.jsonl"
    metrics = evaluate(make_samples(saliency=True), output_file=path)
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert records[0] == {
        "qid": 1,
        "query": "sentence 1",
        "vid": "x",
        "pred_relevant_windows": [[0.0, 5.0, 0.2], [0.0, 10.0, 0.9]],
        "pred_saliency_scores": [0.1235, -1.0],
    }
    assert [record["qid"] for record in records] == [1, 2, 3]
    ground_truth = [{"qid": qid, "relevant_windows": moments} for qid, moments in GROUND_TRUTH.items()]
    assert evaluate_moment_retrieval(records, ground_truth)["brief"]["MR-full-mAP"] == metrics["mAP"] == MEAN_AP


def test_an_unlabelled_data_set_is_an_error():
    with pytest.raises(ValueError, match=r"video 'x' has no gt_moments.*labelled split, or set output_file"):
        evaluate(make_samples(ground_truth=None))


def test_an_unlabelled_data_set_can_be_submitted(tmp_path):
    path = tmp_path / "submission.jsonl"
    assert evaluate(make_samples(ground_truth=None), output_file=path) == {}
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3


def test_a_partly_labelled_data_set_is_an_error(tmp_path):
    samples = [make_samples()[0], make_samples(ground_truth=None)[1]]
    with pytest.raises(ValueError, match=r"qid 3 of the predictions not in the ground truth"):
        evaluate(samples, output_file=tmp_path / "submission.jsonl")


def test_nan_names_the_query():
    predictions = {**PREDICTIONS, 2: [[0, 20, float("nan")]]}
    with pytest.raises(ValueError, match=r"qid 2: window 0 of pred_relevant_windows is \[0.0, 20.0, nan\]"):
        evaluate(make_samples(predictions))


def test_a_video_met_twice_names_the_query():
    samples = make_samples()
    with pytest.raises(ValueError, match=r"qid 1, 2 more than once"):
        evaluate([*samples, samples[0]])


def test_a_sample_without_predictions_names_the_video():
    sample = make_samples()[0]
    del sample.pred_moments
    with pytest.raises(ValueError, match=r"video 'x' has no pred_moments"):
        evaluate([sample])


def test_a_missing_query_names_the_video():
    sample = make_samples()[0]
    sample.pred_moments = sample.pred_moments[:1]
    with pytest.raises(ValueError, match=r"video 'x' has 1 pred_moments for 2 queries"):
        evaluate([sample])


def test_nothing_evaluated_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no data sample was evaluated"):
        evaluate([], output_file=tmp_path / "submission.jsonl")
    assert not list(tmp_path.iterdir())


def test_options_are_checked_before_training():
    with pytest.raises(ValueError, match="r1_thresholds has 70"):
        MomentRetrievalMetric(r1_thresholds=[70])


def test_splits_are_scored_apart(tmp_path):
    samples = make_samples()
    for sample, split in zip(samples, ("novel", "trivial"), strict=True):
        sample.set_metainfo({"split": split})
    samples[1].pred_moments = [np.array([[30.0, 60.0, 1.0]])]
    metrics = evaluate(samples, by_split=True, length_ranges={}, output_file=str(tmp_path / "out.jsonl"))
    assert [metrics[f"{split}/R1@0.7"] for split in ("novel", "trivial")] == [50.0, 100.0]
    assert metrics["novel/mIoU"] == evaluate(samples[:1], length_ranges={})["mIoU"]
    assert {key.split("/")[0] for key in metrics} == {"novel", "trivial"}
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3
    # Without the option the splits are one.
    assert evaluate(samples, length_ranges={})["R1@0.7"] == 66.67


def test_samples_without_split_cannot_be_scored_by_split():
    with pytest.raises(ValueError, match="video 'x' names no split, so by_split cannot score it; set by_split=False"):
        evaluate(make_samples(), by_split=True)
