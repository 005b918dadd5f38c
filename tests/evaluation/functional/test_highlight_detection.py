# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesm_plugin.evaluation.functional import evaluate_highlight_detection
from mesm_plugin.evaluation.functional.highlight_detection import ranking_average_precision

GROUND_TRUTH = [
    # Clips 0 to 3; the annotators' grades of clips 1 and 2.
    {"qid": 1, "duration": 8, "relevant_clip_ids": [1, 2], "saliency_scores": [[4, 2, 0], [3, 0, 0]]},
    {"qid": "b", "duration": 5.9, "relevant_clip_ids": [0], "saliency_scores": [[2, 2, 2]]},
]
PREDICTIONS = [
    {"qid": "b", "pred_saliency_scores": [-0.5, -1.0]},
    {"qid": 1, "pred_saliency_scores": [0.5, 0.1, 0.9, 0.1]},
]


def plain_average_precision(scores, positive):
    """The same of one query and annotator, score by score."""
    points = []
    for threshold in sorted(set(scores)):
        chosen = [truth for score, truth in zip(scores, positive, strict=True) if score >= threshold]
        points.append((sum(chosen), sum(chosen) / len(chosen)))
    best, values = 0.0, []
    for i, (found, precision) in enumerate(points):
        best = max(best, precision)
        if found > (points[i + 1][0] if i + 1 < len(points) else 0):
            values.append(best)
    return sum(values) / len(values) if values else 0.0


def with_record(records, index, **fields):
    records = copy.deepcopy(records)
    records[index].update(fields)
    return records


def test_the_peers_numbers_to_the_last_digit(golden):
    if "saliency_scores" not in golden.ground_truth[0]:
        pytest.skip("a data set without graded clips")
    results = evaluate_highlight_detection(golden.predictions, golden.ground_truth)
    assert results == {name: golden.expected[name] for name in results}
    for name, scores in results.items():
        for key, value in scores.items():
            assert golden.expected["brief"][f"{name}-{key.removeprefix('HL-')}"] == value
    shuffled = copy.deepcopy(golden.predictions)
    for record in shuffled:
        record["pred_saliency_scores"].reverse()
    assert evaluate_highlight_detection(shuffled, golden.ground_truth)["HL-min-Fair"] != results["HL-min-Fair"]


def test_numbers_by_hand():
    results = evaluate_highlight_detection(PREDICTIONS, GROUND_TRUTH)
    # Query 1, from grade 2 on: annotator 0 wants clips 1 and 2, found first and, tied with clip 3, among all four:
    # precision 1 and 2/4. Annotator 1 wants clip 1: 1/4; annotator 2 none: 0. Query "b" has two clips, all want the
    # first: 1. The highest scores are those of clip 2 of query 1, graded 3 by annotator 0, and of that first clip.
    assert results == {
        "HL-min-Fair": {"HL-mAP": round(100 * (0.75 + 0.25 + 0 + 3) / 6, 2), "HL-Hit1": 100.0},
        "HL-min-Good": {"HL-mAP": 12.5, "HL-Hit1": 50.0},
        "HL-min-VeryGood": {"HL-mAP": round(100 * 0.25 / 6, 2), "HL-Hit1": 0.0},
    }


def test_fewer_and_more_scores_than_clips():
    truth = [{"qid": 1, "duration": 6, "relevant_clip_ids": [2], "saliency_scores": [[4, 4, 4]]}]

    def scores(*values):
        return evaluate_highlight_detection([{"qid": 1, "pred_saliency_scores": list(values)}], truth)["HL-min-Fair"]

    # The missing score of clip 2 is 0: above the two others.
    assert scores(-1.0, -2.0) == {"HL-mAP": 100.0, "HL-Hit1": 0.0}
    # The fourth score belongs to no clip: dropped for mAP, a miss for HIT@1.
    assert scores(0.0, 0.1, 0.2, 0.9) == {"HL-mAP": 100.0, "HL-Hit1": 0.0}
    assert scores(0.0, 0.1, 0.2, 0.2) == {"HL-mAP": 100.0, "HL-Hit1": 100.0}
    assert scores(0.2, 0.2, 0.2) == {"HL-mAP": 33.33, "HL-Hit1": 0.0}


def test_other_clip_length():
    truth = [{"qid": 1, "duration": 2, "relevant_clip_ids": [1], "saliency_scores": [[4]]}]
    predictions = [{"qid": 1, "pred_saliency_scores": [0.0, 1.0]}]
    assert evaluate_highlight_detection(predictions, truth, clip_length=1.0)["HL-min-Good"]["HL-mAP"] == 100.0
    with pytest.raises(ValueError, match="qid 1: relevant_clip_ids has 1, but the video has 1 clips of 2 s"):
        evaluate_highlight_detection(predictions, truth)


@settings(max_examples=60)
@given(st.data())
def test_average_precision_of_ties_and_padding(data):
    lengths = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    width = max(lengths)
    scores = np.full((len(lengths), width), 99.0)
    positive = np.ones((len(lengths), width, 2), dtype=bool)
    expected = np.zeros((len(lengths), 2))
    for i, length in enumerate(lengths):
        scores[i, :length] = data.draw(st.lists(st.integers(-2, 2), min_size=length, max_size=length))
        for a in range(2):
            truth = data.draw(st.lists(st.booleans(), min_size=length, max_size=length))
            positive[i, :length, a] = truth
            expected[i, a] = plain_average_precision(scores[i, :length].tolist(), truth)
    mask = np.arange(width) < np.array(lengths)[:, None]
    np.testing.assert_allclose(ranking_average_precision(scores, positive, mask), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("predictions", "ground_truth", "message"),
    [
        (PREDICTIONS[:1], GROUND_TRUTH, "qid 1 of the ground truth without a prediction record"),
        ([*PREDICTIONS, PREDICTIONS[0]], GROUND_TRUTH, "qid 'b' more than once in the predictions"),
        (
            [{"qid": "b"}, PREDICTIONS[1]],
            GROUND_TRUTH,
            "qid 'b' has no pred_saliency_scores; expected a score for each",
        ),
        (with_record(PREDICTIONS, 0, pred_saliency_scores=[]), GROUND_TRUTH, r"qid 'b': pred_saliency_scores is \[\]"),
        (
            with_record(PREDICTIONS, 0, pred_saliency_scores=[0.1, float("nan")]),
            GROUND_TRUTH,
            r"qid 'b': pred_saliency_scores is \[0\.1, nan\]; expected a finite score",
        ),
        (
            with_record(PREDICTIONS, 0, pred_saliency_scores=[[0.1]]),
            GROUND_TRUTH,
            "qid 'b': .*; expected a finite score",
        ),
        (with_record(PREDICTIONS, 0, pred_saliency_scores=["x"]), GROUND_TRUTH, "qid 'b': .* is not a list of numbers"),
        (
            PREDICTIONS,
            with_record(GROUND_TRUTH, 0, saliency_scores=None),
            "qid 1 has no saliency_scores; is it .*unlab",
        ),
        (PREDICTIONS, with_record(GROUND_TRUTH, 0, duration=None), "qid 1 has no duration"),
        (
            PREDICTIONS,
            with_record(GROUND_TRUTH, 0, relevant_clip_ids=[1]),
            r"qid 1: .* shape \(2, 3\); expected \(1, ann",
        ),
        (
            PREDICTIONS,
            with_record(GROUND_TRUTH, 1, relevant_clip_ids=[2]),
            "qid 'b': .* has 2, but the video has 2 clips",
        ),
        (PREDICTIONS, with_record(GROUND_TRUTH, 1, relevant_clip_ids=[-1]), "qid 'b': relevant_clip_ids has -1, but"),
    ],
)
def test_bad_records_are_named(predictions, ground_truth, message):
    with pytest.raises(ValueError, match=message):
        evaluate_highlight_detection(predictions, ground_truth)
