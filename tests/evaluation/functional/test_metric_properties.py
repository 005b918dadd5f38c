# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Metrics on adversarial numbers: bounded, blind to order, and equal to plain counting."""

import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesm_plugin.evaluation.functional import evaluate_highlight_detection, evaluate_moment_retrieval

TIMES = st.sampled_from([0.0, -0.0, 1e-8, 0.1, 2.0, 2.0000001, 5.0, 10.0, 30.0, 149.9, 150.0, 600.0, 1e6])
SCORES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-30, 0.5, 0.5000001, 1e30, -1e30])
WINDOWS = st.tuples(TIMES, TIMES).map(sorted).map(list)
# The peers' rounding to two decimals hides smaller differences.
THRESHOLDS = (0.3, 0.5, 0.7)


@st.composite
def records(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Predictions and ground truth of 1 to 4 queries."""
    predictions, truth = [], []
    for qid in range(draw(st.integers(1, 4))):
        moments = draw(st.lists(WINDOWS.filter(lambda w: w[0] < w[1]), min_size=1, max_size=3))
        windows = draw(st.lists(st.tuples(WINDOWS, SCORES), max_size=12))
        truth.append({"qid": qid, "relevant_windows": moments})
        predictions.append({"qid": qid, "pred_relevant_windows": [[*window, score] for window, score in windows]})
    return predictions, truth


def numbers(result: Any) -> list[float]:
    values = result.values() if isinstance(result, dict) else [result]
    return [x for value in values for x in (numbers(value) if isinstance(value, dict) else [value]) if x is not None]


def exact_iou(one: list[float], other: list[float]) -> Fraction:
    (a, b), (c, d) = (map(Fraction, window) for window in (one, other))
    intersection = max(Fraction(0), min(b, d) - max(a, c))
    union = (b - a) + (d - c) - intersection
    return intersection / union if union else Fraction(0)


@given(records())
def test_scores_are_percent_and_fall_with_the_threshold(case: tuple[list, list]) -> None:
    result = evaluate_moment_retrieval(*case, r1_thresholds=THRESHOLDS, r5_thresholds=(0.5,), map_thresholds=THRESHOLDS)
    assert all(0 <= value <= 100 for value in numbers(result))
    for kind in ("MR-R1", "MR-mAP"):
        falling = [result["full"][kind][str(threshold)] for threshold in THRESHOLDS]
        assert falling == sorted(falling, reverse=True)
    assert result["full"]["MR-R5"]["0.5"] >= result["full"]["MR-R1"]["0.5"]


@given(records())
def test_recall_is_that_of_exact_arithmetic(case: tuple[list, list]) -> None:
    predictions, truth = case
    best = [
        max((exact_iou(windows[0][:2], moment) for moment in true["relevant_windows"]), default=Fraction(0))
        if (windows := predicted["pred_relevant_windows"])
        else Fraction(0)
        for predicted, true in zip(predictions, truth, strict=True)
    ]
    result = evaluate_moment_retrieval(predictions, truth, r1_thresholds=THRESHOLDS)["full"]["MR-R1"]
    for threshold in THRESHOLDS:
        # IoUs that lie on the threshold but for rounding may count or not.
        sure = sum(iou >= Fraction(threshold) + Fraction(1, 10**9) for iou in best)
        possible = sum(iou >= Fraction(threshold) - Fraction(1, 10**9) for iou in best)
        assert 100 * sure / len(best) - 0.01 <= result[str(threshold)] <= 100 * possible / len(best) + 0.01
    assert result["miou"] == pytest.approx(100 * float(sum(best)) / len(best), abs=0.011)


@given(records(), st.randoms(use_true_random=False))
def test_order_of_records_and_of_true_moments_changes_nothing(case: tuple[list, list], shuffle: random.Random) -> None:
    predictions, truth = case
    expected = evaluate_moment_retrieval(predictions, truth)
    for record in truth:
        shuffle.shuffle(record["relevant_windows"])
    shuffle.shuffle(predictions)
    shuffle.shuffle(truth)
    result = evaluate_moment_retrieval(predictions, truth)
    assert result["full"]["MR-R1"] == expected["full"]["MR-R1"]
    assert result.keys() == expected.keys()


@given(records())
def test_the_truth_scores_100(case: tuple[list, list]) -> None:
    _, truth = case
    for record in truth:
        record["relevant_windows"] = [list(x) for x in dict.fromkeys(map(tuple, record["relevant_windows"]))]
    perfect = [
        {"qid": record["qid"], "pred_relevant_windows": [[*moment, 1.0] for moment in record["relevant_windows"]]}
        for record in truth
    ]
    result = evaluate_moment_retrieval(perfect, truth)["full"]
    assert set(result["MR-R1"].values()) == {100}
    if all(_are_apart(record["relevant_windows"]) for record in truth):
        assert set(result["MR-mAP"].values()) == {100}


def _are_apart(moments: list[list[float]]) -> bool:
    """Whether no moment can be taken for another one."""
    return all(exact_iou(a, b) < Fraction(1, 2) for i, a in enumerate(moments) for b in moments[:i])


@given(records(), st.sampled_from([float("nan"), float("inf"), "x", None, [1]]), st.integers(0, 2))
@settings(max_examples=50)
def test_what_is_no_number_is_refused_by_its_qid(case: tuple[list, list], value: Any, column: int) -> None:
    predictions, truth = case
    window = [0.0, 1.0, 0.5]
    window[column] = value
    predictions[-1]["pred_relevant_windows"] = [window]
    with pytest.raises(ValueError, match=f"qid {predictions[-1]['qid']}"):
        evaluate_moment_retrieval(predictions, truth)


@given(st.data(), st.integers(1, 6), st.randoms(use_true_random=False))
def test_highlights(data: st.DataObject, clips: int, shuffle: random.Random) -> None:
    scores = data.draw(st.lists(SCORES, min_size=clips, max_size=clips))
    relevant = data.draw(st.lists(st.integers(0, clips - 1), min_size=1, unique=True))
    grade = st.integers(0, 4)
    grades = data.draw(st.lists(st.tuples(grade, grade, grade), min_size=len(relevant), max_size=len(relevant)))
    order = list(range(len(relevant)))
    shuffle.shuffle(order)
    results = []
    for rows in (range(len(relevant)), order):
        labels = {"relevant_clip_ids": [relevant[i] for i in rows], "saliency_scores": [list(grades[i]) for i in rows]}
        truth = [{"qid": 1, "duration": 2.0 * clips, "relevant_windows": [[0, 2]], **labels}]
        results.append(evaluate_highlight_detection([{"qid": 1, "pred_saliency_scores": scores}], truth))
    assert all(0 <= value <= 100 for value in numbers(results[0]))
    assert results[0] == results[1]
    # A clip that is best by a margin for all annotators, and scored best, is a hit.
    if (
        len(set(scores)) == clips
        and (4, 4, 4) in grades
        and relevant[grades.index((4, 4, 4))] == int(np.argmax(scores))
    ):
        assert results[0]["HL-min-VeryGood"]["HL-Hit1"] == 100
