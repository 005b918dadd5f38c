# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The moment-retrieval numbers of a whole split: R1@IoU, mIoU and mAP, overall and by moment length."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mesm_plugin.evaluation.functional.average_precision import average_precision
from mesm_plugin.evaluation.functional.recall import mean_iou, recall_at, recall_at_one
from mesm_plugin.evaluation.functional.records import Record, order_like_ground_truth, pad_windows
from mesm_plugin.evaluation.functional.types import BoolArray, FloatArray

AVERAGED_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""The IoU thresholds over which mAP is averaged."""

LENGTH_RANGES = {"short": (0.0, 10.0), "middle": (10.0, 30.0), "long": (30.0, 150.0), "superlong": (150.0, 600.0)}
"""Moment lengths (min, max] in seconds. The peers report the last one for TACoS only; elsewhere it is empty."""

MAX_WINDOWS = 10
"""Windows of a query that count for mAP: the first ones listed, whatever their scores."""


def evaluate_moment_retrieval(
    predictions: Sequence[Record],
    ground_truth: Sequence[Record],
    *,
    r1_thresholds: Sequence[float] = (0.3, 0.5, 0.7),
    r5_thresholds: Sequence[float] = (),
    map_thresholds: Sequence[float] = (0.5, 0.75),
    length_ranges: Mapping[str, Sequence[float]] = LENGTH_RANGES,
) -> dict[str, dict[str, Any]]:
    """Scores predicted windows as the evaluators of Moment-DETR, QD-DETR and MESM do, to the last printed digit.

    R1 and mIoU look at the first window that a prediction lists, R5 at the first five, mAP at the first 10, ranked by
    score. A query whose prediction lists no window counts as a miss. A length range keeps the moments within it and
    drops the queries left without one; it keeps all predictions.

    Args:
        predictions: One record a query: `qid` and `pred_relevant_windows` [[start s, end s, score], ...]. Other keys
            are ignored. The order of the records does not matter.
        ground_truth: One record a query: `qid` and `relevant_windows` [[start s, end s], ...].
        r1_thresholds: IoU thresholds of R1.
        r5_thresholds: IoU thresholds of R5, which these peers do not have; it is left out if there are none.
        map_thresholds: IoU thresholds at which mAP is reported. Its average is over 0.5:0.05:0.95, whatever is
            reported.
        length_ranges: Name -> (min, max] in seconds.

    Returns:
        The peers' layout, in percent with two decimals. "full" and each length range that has a query hold
        {"MR-R1": {"0.5": ..., "miou": ...}, "MR-R5": {"0.5": ...}, "MR-mAP": {"0.5": ..., "average": ...}}; "brief"
        holds the headline numbers "MR-full-R1@0.5", "MR-full-miou", "MR-full-mAP@0.5", "MR-full-mAP", "MR-short-mAP"
        and so on, with None for a range without a query.

    Raises:
        ValueError: A qid is missing, unknown or repeated, a window is malformed or not finite, a query has no moment
            or one that ends before it starts, or an option is out of range; the message names the qid or the option.
    """
    r1_thresholds = checked_thresholds("r1_thresholds", r1_thresholds)
    r5_thresholds = checked_thresholds("r5_thresholds", r5_thresholds)
    map_thresholds = checked_thresholds("map_thresholds", map_thresholds)
    length_ranges = checked_length_ranges(length_ranges)
    windows, windows_mask = pad_windows(
        order_like_ground_truth(predictions, ground_truth), "pred_relevant_windows", columns=3
    )
    windows[~windows_mask, 2] = -np.inf
    windows = windows[:, :MAX_WINDOWS]
    moments, moments_mask = _moments_of(ground_truth)

    lengths = moments[..., 1] - moments[..., 0]
    masks = {"full": moments_mask}
    for name, (low, high) in length_ranges.items():
        masks[name] = moments_mask & (lengths > low) & (lengths <= high)
    queries = {name: rows for name, mask in masks.items() if len(rows := np.flatnonzero(mask.any(axis=1)))}

    # All ranges at once, since most of the time goes into calling NumPy.
    thresholds = sorted({*AVERAGED_THRESHOLDS, *map_thresholds})
    rows = np.concatenate(list(queries.values()))
    mask = np.concatenate([masks[name][kept] for name, kept in queries.items()])
    precision = average_precision(windows[rows], moments[rows], mask, np.array(thresholds))
    results: dict[str, dict[str, Any]] = {}
    begin = 0
    for name, kept in queries.items():
        part = slice(begin, begin + len(kept))
        begin = part.stop
        mean_precision = dict(zip(thresholds, precision[part].mean(axis=0), strict=True))
        results[name] = {
            **_recall(windows[kept], moments[kept], mask[part], r1_thresholds, r5_thresholds),
            "MR-mAP": _mean_average_precision(mean_precision, map_thresholds),
        }
    return {"brief": _brief(results, length_ranges), **results}


def checked_thresholds(name: str, thresholds: Sequence[float]) -> list[float]:
    """Returns IoU thresholds as floats rounded to 4 decimals.

    Rounding makes 0.65 of `np.arange(0.5, 1, 0.05)`, which is a little more, the number that is printed.

    Raises:
        ValueError: A threshold is not in (0, 1]; `name` is the option to name.
    """
    rounded = [round(float(threshold), 4) for threshold in thresholds]
    for threshold in rounded:
        if not 0 < threshold <= 1:
            raise ValueError(f"{name} has {threshold}; expected IoU thresholds above 0 and at most 1, not percent")
    return rounded


def checked_length_ranges(length_ranges: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    """Returns length ranges as name -> (min, max] in seconds.

    Raises:
        ValueError: A name is reserved, or a range is not two numbers with 0 <= min < max.
    """
    checked: dict[str, tuple[float, float]] = {}
    for name, bounds in length_ranges.items():
        if name in ("brief", "full"):
            raise ValueError(f"length_ranges has the name {name!r}, which is reserved; choose another")
        if len(bounds) != 2 or not 0 <= bounds[0] < bounds[1]:
            raise ValueError(f"length_ranges[{name!r}] is {bounds}; expected (min, max) in seconds, 0 <= min < max")
        checked[name] = (float(bounds[0]), float(bounds[1]))
    return checked


def _moments_of(ground_truth: Sequence[Record]) -> tuple[FloatArray, BoolArray]:
    moments, mask = pad_windows(ground_truth, "relevant_windows", columns=2)
    for row in np.flatnonzero(~mask.any(axis=1)).tolist():
        raise ValueError(f"qid {ground_truth[row]['qid']!r} has no moment; expected at least one in relevant_windows")
    for row, column in np.argwhere(moments[..., 1] < moments[..., 0]).tolist():
        start, end = moments[row, column].tolist()
        raise ValueError(f"qid {ground_truth[row]['qid']!r}: moment {[start, end]} ends before it starts")
    return moments, mask


def _recall(
    windows: FloatArray,
    moments: FloatArray,
    moments_mask: BoolArray,
    r1_thresholds: list[float],
    r5_thresholds: list[float],
) -> dict[str, dict[str, float]]:
    recall = recall_at_one(windows[:, 0, :2], moments, moments_mask, np.array(r1_thresholds))
    r1 = {f"{threshold:g}": percent(value) for threshold, value in zip(r1_thresholds, recall, strict=True)}
    r1["miou"] = percent(mean_iou(windows[:, 0, :2], moments, moments_mask))
    scores = {"MR-R1": r1}
    if r5_thresholds:
        recall = recall_at(5, windows[..., :2], moments, moments_mask, np.array(r5_thresholds))
        scores["MR-R5"] = {f"{key:g}": percent(value) for key, value in zip(r5_thresholds, recall, strict=True)}
    return scores


def _mean_average_precision(precision: Mapping[float, float], map_thresholds: list[float]) -> dict[str, float]:
    mean_ap = {f"{threshold:g}": percent(precision[threshold]) for threshold in map_thresholds}
    mean_ap["average"] = percent(float(np.mean([precision[threshold] for threshold in AVERAGED_THRESHOLDS])))
    return mean_ap


def percent(share: float) -> float:
    """A share as the peers print it: in percent with two decimals."""
    return float(f"{100 * share:.2f}")


def _brief(
    results: Mapping[str, Mapping[str, Mapping[str, float]]], length_ranges: Mapping[str, Any]
) -> dict[str, float | None]:
    full = results["full"]
    brief: dict[str, float | None] = {}
    for key, value in full["MR-R1"].items():
        brief["MR-full-miou" if key == "miou" else f"MR-full-R1@{key}"] = value
    for key, value in full.get("MR-R5", {}).items():
        brief[f"MR-full-R5@{key}"] = value
    for key, value in full["MR-mAP"].items():
        brief["MR-full-mAP" if key == "average" else f"MR-full-mAP@{key}"] = value
    for name in length_ranges:
        brief[f"MR-{name}-mAP"] = results[name]["MR-mAP"]["average"] if name in results else None
    return brief
