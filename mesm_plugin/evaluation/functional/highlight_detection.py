# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The highlight-detection numbers of a whole split: mAP and HIT@1 of clip scores."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mesm_plugin.evaluation.functional.moment_retrieval import percent
from mesm_plugin.evaluation.functional.records import Record, order_like_ground_truth, pad_scores
from mesm_plugin.evaluation.functional.types import BoolArray, FloatArray

LOWEST_GRADES = {"Fair": 2, "Good": 3, "VeryGood": 4}
"""The grade from which on a clip is a highlight."""


def evaluate_highlight_detection(
    predictions: Sequence[Record], ground_truth: Sequence[Record], *, clip_length: float = 2.0
) -> dict[str, dict[str, float]]:
    """Scores predicted clip scores as QVHighlights' evaluator does, to the last printed digit.

    Every annotator has a truth of their own: the clips that they graded so high or higher. mAP is the mean over queries
    and annotators. HIT@1 looks at the clip that a prediction scores highest, the first of equal ones, and is the share
    of queries where any annotator calls it a highlight. For mAP, clips without a score have score 0, and scores beyond
    the video's clips are dropped.

    Args:
        predictions: One record a query: `qid` and `pred_saliency_scores`, a score per clip. Other keys are ignored. The
            order of the records does not matter.
        ground_truth: One record a query: `qid`, `duration` in seconds, `relevant_clip_ids` (n,) and `saliency_scores`
            (n, annotators); clips that are not listed have grade 0.
        clip_length: Seconds of a clip.

    Returns:
        The peers' layout, in percent with two decimals: {"HL-min-Fair": {"HL-mAP": ..., "HL-Hit1": ...}, "HL-min-Good":
        ..., "HL-min-VeryGood": ...}.

    Raises:
        ValueError: A qid is missing, unknown or repeated, or scores or grades are malformed; the message names the qid.
    """
    records = order_like_ground_truth(predictions, ground_truth)
    grades, clips_mask = _grades_of(ground_truth, clip_length)
    given, given_mask = pad_scores(records, "pred_saliency_scores")
    queries, clips = clips_mask.shape
    scores = np.zeros((queries, clips))
    width = min(clips, given.shape[1])
    scores[:, :width] = given[:, :width]

    best = np.where(given_mask, given, -np.inf).argmax(axis=1)
    best_grade = np.where(best < clips, grades[np.arange(queries), best.clip(max=clips - 1)].max(axis=1), 0)
    # All grades at once, since they share the ranking.
    positive = np.concatenate([grades >= lowest for lowest in LOWEST_GRADES.values()], axis=-1)
    precision = ranking_average_precision(scores, positive, clips_mask).reshape(queries, len(LOWEST_GRADES), -1)
    results = {}
    for index, (name, lowest) in enumerate(LOWEST_GRADES.items()):
        results[f"HL-min-{name}"] = {
            "HL-mAP": percent(precision[:, index].mean()),
            "HL-Hit1": percent((best_grade >= lowest).mean()),
        }
    return results


def ranking_average_precision(scores: FloatArray, positive: BoolArray, mask: BoolArray) -> FloatArray:
    """Interpolated average precision of ranked clips.

    The mean of the interpolated precisions at those scores, from high to low, that bring new positives; clips of equal
    score are ranked together.

    Args:
        scores: (Q, L), float64.
        positive: (Q, L, A) the clips to be found, according to each of A annotators.
        mask: (Q, L) True = valid.

    Returns:
        (Q, A) values between 0 and 1; 0 where there is no positive.
    """
    order = np.argsort(np.where(mask, -scores, np.inf), axis=1, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=1)
    valid = np.take_along_axis(mask, order, axis=1)
    # The last of equal scores stands for all of them.
    last = valid.copy()
    last[:, :-1] &= ~valid[:, 1:] | (ranked[:, :-1] != ranked[:, 1:])

    found = (np.take_along_axis(positive, order[..., None], axis=1) & valid[..., None]).cumsum(axis=1)
    ranks = np.arange(1, scores.shape[1] + 1)[:, None]
    precision = np.where(last[..., None], found / ranks, 0.0)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    so_far = np.maximum.accumulate(np.where(last[..., None], found, 0), axis=1)
    new = np.diff(so_far, axis=1, prepend=0) > 0
    count = new.sum(axis=1)
    return np.where(new, precision, 0.0).sum(axis=1) / np.maximum(count, 1)


def _grades_of(ground_truth: Sequence[Record], clip_length: float) -> tuple[npt.NDArray[np.int64], BoolArray]:
    """The grades (Q, L, annotators) of all clips, and which of them are valid, (Q, L)."""
    lengths, clips, grades = [], [], []
    for record in ground_truth:
        name = f"qid {record['qid']!r}"
        for key in ("duration", "relevant_clip_ids", "saliency_scores"):
            if record.get(key) is None:
                raise ValueError(f"{name} has no {key}; is it a record of an unlabelled split?")
        lengths.append(int(record["duration"] / clip_length))
        clips.append(np.asarray(record["relevant_clip_ids"]).reshape(-1))
        grades.append(np.asarray(record["saliency_scores"]))
        if grades[-1].ndim != 2 or len(grades[-1]) != len(clips[-1]) or grades[-1].shape[1:] != grades[0].shape[1:]:
            raise ValueError(
                f"{name}: saliency_scores has shape {grades[-1].shape}; expected ({len(clips[-1])}, annotators), a row "
                "for each of relevant_clip_ids"
            )
        for clip in clips[-1][(clips[-1] < 0) | (clips[-1] >= lengths[-1])].tolist():
            total = f"{lengths[-1]} clips of {clip_length:g} s"
            raise ValueError(f"{name}: relevant_clip_ids has {clip}, but the video has {total}")
    mask = np.arange(max(1, *lengths)) < np.array(lengths)[:, None]
    all_grades = np.zeros((*mask.shape, grades[0].shape[1]), dtype=np.int64)
    rows = np.repeat(np.arange(len(clips)), list(map(len, clips)))
    all_grades[rows, np.concatenate(clips)] = np.concatenate(grades)
    return all_grades, mask
