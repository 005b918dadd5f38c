# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from mmengine.evaluator import Evaluator

from mesm_plugin.evaluation import HighlightDetectionMetric
from mesm_plugin.structures import GroundingDataSample


def make_sample(vid, saliency, grades=None, **metainfo):
    """A video of four clips with two queries; clips 1 and 2 are graded."""
    metainfo |= {"vid": vid, "source": vid, "duration": 8.0, "num_clips": 4, "qids": [f"{vid}0", f"{vid}1"]}
    if grades is not None:
        metainfo |= {"gt_clips": [np.array([1, 2])] * 2, "gt_grades": [np.array(grades)] * 2}
    sample = GroundingDataSample(metainfo=metainfo)
    if saliency is not None:
        sample.pred_saliency = [np.array(scores, dtype=np.float32) for scores in saliency]
    return sample


SAMPLES = [
    make_sample("x", [[0, 1, 2, 0], [3, 1, 2, 0]], [[4, 4, 4], [2, 2, 2]]),
    # Equal with 4 decimals.
    make_sample("y", [[0.90001, 0.90002, 0, 0], [0, 0, 0.1, 1]], [[3, 3, 3], [0, 0, 0]]),
]


def evaluate(samples, **options):
    evaluator = Evaluator({"type": "HighlightDetectionMetric", **options})
    for sample in samples:
        evaluator.process([sample])
    assert len(evaluator.metrics[0].results) == len(samples)
    return evaluator.evaluate(size=len(samples))


def test_keys_and_numbers():
    # Precision of the positives, Fair: 1, 1; 1/2 and 2/3, interpolated 2/3 both; 1/2; 1/4 (last with clip 0).
    fair = 100 * (1 + 2 / 3 + 1 / 2 + 1 / 4) / 4
    # Very good: clip 1 of x only, ranked second and third.
    very_good = 100 * (1 / 2 + 1 / 3) / 4
    good = very_good + 100 * (1 / 2 + 1 / 4) / 4
    assert evaluate(SAMPLES) == {
        "highlights/Fair/mAP": pytest.approx(fair, abs=0.005),
        "highlights/Fair/HIT@1": 25.0,
        "highlights/Good/mAP": pytest.approx(good, abs=0.005),
        "highlights/Good/HIT@1": 0.0,
        "highlights/VeryGood/mAP": pytest.approx(very_good, abs=0.005),
        "highlights/VeryGood/HIT@1": 0.0,
    }


def test_options():
    assert set(evaluate(SAMPLES, prefix="q", clip_length=1.0)) == {
        f"q/{name}/{key}" for name in ("Fair", "Good", "VeryGood") for key in ("mAP", "HIT@1")
    }
    with pytest.raises(ValueError, match="clip_length is 0, expected seconds > 0"):
        HighlightDetectionMetric(clip_length=0)


def test_unlabelled_split_is_not_scored():
    assert evaluate([make_sample("x", [[0, 1, 2, 0]] * 2)]) == {}


def test_bad_samples():
    with pytest.raises(ValueError, match="video 'x' has no pred_saliency; expected .* mode='predict'"):
        evaluate([make_sample("x", None)])
    with pytest.raises(ValueError, match="video 'x' has 1 pred_saliency for 2 queries"):
        evaluate([make_sample("x", [[0, 1, 2, 0]])])
    with pytest.raises(ValueError, match="video 'x' has gt_moments and no gt_grades; .* such as QVHighlightsDataset"):
        evaluate([make_sample("x", [[0, 1, 2, 0]] * 2, gt_moments=[np.zeros((1, 2))] * 2)])
    with pytest.raises(ValueError, match="no data sample was evaluated"):
        HighlightDetectionMetric().compute_metrics([])
