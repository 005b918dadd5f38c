# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""From records, the lines of the field's JSONL files, to padded arrays."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mesm_plugin.evaluation.functional.types import BoolArray, FloatArray

Record = Mapping[str, Any]


def order_like_ground_truth(predictions: Sequence[Record], ground_truth: Sequence[Record]) -> list[Record]:
    """Returns the prediction records in the order of the ground-truth records, matched by `qid`.

    Raises:
        ValueError: There is no ground truth, a qid occurs twice or not at all on either side, or a record has none.
    """
    if not ground_truth:
        raise ValueError("no ground-truth records: there is nothing to evaluate")
    true_qids = _unique_qids("ground truth", ground_truth)
    by_qid = dict(zip(_unique_qids("predictions", predictions), predictions, strict=True))
    missing = [qid for qid in true_qids if qid not in by_qid]
    if missing:
        raise ValueError(
            f"{_listed(missing)} of the ground truth without a prediction record; "
            "give a query without predictions an empty pred_relevant_windows"
        )
    unknown = by_qid.keys() - set(true_qids)
    if unknown:
        raise ValueError(
            f"{_listed(sorted(unknown, key=str))} of the predictions not in the ground truth; "
            "check that both are of the same split"
        )
    return [by_qid[qid] for qid in true_qids]


def pad_windows(records: Sequence[Record], key: str, columns: int) -> tuple[FloatArray, BoolArray]:
    """Gathers the windows of all records in one array.

    Args:
        records: Q records with a `qid` and, under `key`, a list of windows, each with `columns` numbers.
        key: "pred_relevant_windows" (start s, end s, score) or "relevant_windows" (start s, end s).
        columns: Numbers per window.

    Returns:
        The windows (Q, N, columns), float64, zero where padded, N at least 1; and a mask (Q, N), True = valid.

    Raises:
        ValueError: A record lacks `key`, or its windows are not finite numbers in rows of `columns`; names the qid.
    """
    arrays = [_windows_of(record, key, columns) for record in records]
    counts = np.array([len(array) for array in arrays])
    mask = np.arange(max(1, counts.max(initial=0))) < counts[:, None]
    windows = np.zeros((*mask.shape, columns))
    windows[mask] = np.concatenate(arrays)
    bad = ~np.isfinite(windows).all(axis=-1)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"qid {records[row]['qid']!r}: window {column} of {key} is {windows[row, column].tolist()}; "
            "expected finite numbers"
        )
    return windows, mask


def pad_scores(records: Sequence[Record], key: str) -> tuple[FloatArray, BoolArray]:
    """Gathers the clip scores of all records in one array.

    Args:
        records: Q records with a `qid` and, under `key`, a list of scores.
        key: "pred_saliency_scores".

    Returns:
        The scores (Q, N), float64, zero where padded; and a mask (Q, N), True = valid.

    Raises:
        ValueError: A record lacks `key`, or its scores are no finite numbers in a row; names the qid.
    """
    arrays = []
    for record in records:
        if record.get(key) is None:
            raise ValueError(f"qid {record['qid']!r} has no {key}; expected a score for each clip")
        try:
            array = np.asarray(record[key], dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"qid {record['qid']!r}: {key} is not a list of numbers: {error}") from error
        if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
            shown = array.tolist() if array.size < 10 else f"of shape {array.shape}"
            raise ValueError(f"qid {record['qid']!r}: {key} is {shown}; expected a finite score for each clip")
        arrays.append(array)
    lengths = np.array([len(array) for array in arrays])
    mask = np.arange(lengths.max()) < lengths[:, None]
    scores = np.zeros(mask.shape)
    scores[mask] = np.concatenate(arrays)
    return scores, mask


def _windows_of(record: Record, key: str, columns: int) -> FloatArray:
    if record.get(key) is None:
        raise ValueError(f"qid {record['qid']!r} has no {key}; is it a record of an unlabelled split?")
    try:
        array = np.asarray(record[key], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"qid {record['qid']!r}: {key} is not a list of rows of {columns} numbers: {error}") from error
    if array.size == 0:
        return array.reshape(0, columns)
    if array.ndim != 2 or array.shape[1] != columns:
        raise ValueError(f"qid {record['qid']!r}: {key} has shape {array.shape}; expected (any, {columns})")
    return array


def _unique_qids(name: str, records: Sequence[Record]) -> list[Any]:
    for index, record in enumerate(records):
        if "qid" not in record:
            raise ValueError(f"record {index} of the {name} has no qid; it has {sorted(record)}")
    qids = [record["qid"] for record in records]
    repeated = [qid for qid, count in Counter(qids).items() if count > 1]
    if repeated:
        raise ValueError(f"{_listed(repeated)} more than once in the {name}; expected one record a query")
    return qids


def _listed(qids: Iterable[Any]) -> str:
    first = [repr(qid) for qid in qids]
    more = f" and {len(first) - 5} more" if len(first) > 5 else ""
    return f"qid {', '.join(first[:5])}{more}"
