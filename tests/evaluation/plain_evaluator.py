# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The evaluators of Moment-DETR and QD-DETR, written plainly: query by query, window by window, threshold by threshold.

What the vectorised functions are compared with, in numbers and in time (`python -m bench.evaluators`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Record = Mapping[str, Any]
THRESHOLDS = [round(0.5 + 0.05 * i, 2) for i in range(10)]
RANGES = {"full": (-1, np.inf), "short": (0, 10), "middle": (10, 30), "long": (30, 150)}


def moment_retrieval(predictions: Sequence[Record], ground_truth: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """R1 and mAP at 0.5:0.05:0.95 for all moments and by their length, as `evaluate_moment_retrieval` returns them."""
    windows = {record["qid"]: record["pred_relevant_windows"] for record in predictions}
    results = {}
    for name, (low, high) in RANGES.items():
        recall, precision = [], []
        for record in ground_truth:
            moments = [moment for moment in record["relevant_windows"] if low < moment[1] - moment[0] <= high]
            if moments:
                first = windows[record["qid"]][0]
                best = max(_iou(first, moment) for moment in moments)
                recall.append([best >= threshold for threshold in THRESHOLDS])
                precision.append(_moment_ap(windows[record["qid"]][:10], moments))
        if recall:
            values = dict(zip(map(str, THRESHOLDS), map(_percent, np.mean(recall, axis=0)), strict=True))
            aps = dict(zip(map(str, THRESHOLDS), map(_percent, np.mean(precision, axis=0)), strict=True))
            results[name] = {"MR-R1": values, "MR-mAP": {**aps, "average": _percent(np.mean(precision))}}
    return results


def highlight_detection(predictions: Sequence[Record], ground_truth: Sequence[Record]) -> dict[str, dict[str, float]]:
    """mAP and HIT@1 of clips of 2 s, as `evaluate_highlight_detection` returns them."""
    scores = {record["qid"]: record["pred_saliency_scores"] for record in predictions}
    results = {}
    for name, lowest in {"Fair": 2, "Good": 3, "VeryGood": 4}.items():
        precision, hits = [], []
        for record in ground_truth:
            grades = np.zeros((int(record["duration"] / 2), 3))
            grades[record["relevant_clip_ids"]] = record["saliency_scores"]
            given = np.array(scores[record["qid"]])
            fitted = np.zeros(len(grades))
            fitted[: len(given)] = given[: len(fitted)]
            best = int(np.argmax(given))
            hits.append(best < len(grades) and bool((grades[best] >= lowest).any()))
            precision += [_clip_ap(fitted, grades[:, annotator] >= lowest) for annotator in range(3)]
        results[f"HL-min-{name}"] = {"HL-mAP": _percent(np.mean(precision)), "HL-Hit1": _percent(np.mean(hits))}
    return results


def _iou(a: Sequence[float], b: Sequence[float]) -> float:
    intersection = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return intersection / (max(a[1], b[1]) - min(a[0], b[0])) if intersection else 0.0


def _moment_ap(windows: Sequence[Sequence[float]], moments: Sequence[Sequence[float]]) -> list[float]:
    ranked = sorted(windows, key=lambda window: -window[2])
    overlaps = [[_iou(window, moment) for moment in moments] for window in ranked]
    values = []
    for threshold in THRESHOLDS:
        free = set(range(len(moments)))
        hits = []
        for overlap in overlaps:
            # Of equal overlaps the last.
            best = max(free, key=lambda moment: (overlap[moment], moment), default=None)
            hit = best is not None and overlap[best] >= threshold
            if hit:
                free.remove(best)
            hits.append(hit)
        found, value = 0, 0.0
        precisions = []
        for rank, hit in enumerate(hits, 1):
            found += hit
            precisions.append(found / rank)
        for rank, hit in enumerate(hits):
            if hit:
                value += max(precisions[rank:]) / len(moments)
        values.append(value)
    return values


def _clip_ap(scores: np.ndarray, positive: np.ndarray) -> float:
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    found = np.cumsum(positive[order])[last]
    precision = np.maximum.accumulate((found / (last + 1))[::-1])[::-1]
    new = np.diff(found, prepend=0) > 0
    return float(precision[new].mean()) if new.any() else 0.0


def _percent(share: float) -> float:
    return float(f"{100 * share:.2f}")
