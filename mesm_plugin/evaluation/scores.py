# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The scores of predictions by name, as they are logged and printed."""

from collections.abc import Mapping, Sequence
from typing import Any

from mesm_plugin.evaluation.functional.highlight_detection import evaluate_highlight_detection
from mesm_plugin.evaluation.functional.moment_retrieval import LENGTH_RANGES, evaluate_moment_retrieval
from mesm_plugin.evaluation.functional.records import Record

_NAMES = {"miou": "mIoU", "average": "mAP", "HL-mAP": "mAP", "HL-Hit1": "HIT@1"}
_KINDS = {"MR-R1": "R1", "MR-R5": "R5", "MR-mAP": "mAP"}


def moment_scores(
    predictions: Sequence[Record],
    ground_truth: Sequence[Record],
    *,
    length_ranges: Mapping[str, Sequence[float]] = LENGTH_RANGES,
    **thresholds: Sequence[float],
) -> dict[str, float]:
    """The scores of moments under keys such as `R1@0.5`, `mIoU`, `mAP` and `short/mAP`.

    Arguments and errors as `evaluate_moment_retrieval`.
    """
    scores = evaluate_moment_retrieval(predictions, ground_truth, length_ranges=length_ranges, **thresholds)
    flat: dict[str, float] = {}
    for group in ("full", *length_ranges):
        for kind, values in scores.get(group, {}).items():
            prefix = "" if group == "full" else f"{group}/"
            flat |= {prefix + _NAMES.get(key, f"{_KINDS[kind]}@{key}"): value for key, value in values.items()}
    return flat


def highlight_scores(
    predictions: Sequence[Record], ground_truth: Sequence[Record], clip_length: float = 2.0
) -> dict[str, float]:
    """The scores of clips under keys such as `Fair/mAP` and `Fair/HIT@1`.

    Arguments and errors as `evaluate_highlight_detection`.
    """
    scores = evaluate_highlight_detection(predictions, ground_truth, clip_length=clip_length)
    return {
        f"{group.removeprefix('HL-min-')}/{_NAMES[key]}": value
        for group, values in scores.items()
        for key, value in values.items()
    }


def score_submission(
    submission: Sequence[Record], splits: Mapping[str, Sequence[Record]], **thresholds: Sequence[float]
) -> tuple[dict[str, dict[str, float]], str | None]:
    """Scores a submission on one split or several, apart: moments, and highlights where both sides have them.

    Queries are matched by `qid`, where "7" is 7; if the submission has none of the ground truth's, or other videos and
    sentences under them, by `vid` and `query`, since code bases number the queries of Charades-STA and TACoS
    differently.

    Args:
        submission: What `read_submission` returns, of exactly the queries of all splits.
        splits: The ground truth of each split by its name.
        thresholds: See `evaluate_moment_retrieval`.

    Returns:
        The scores by split, and what should be said about the matching, if anything.

    Raises:
        ValueError: The queries of both sides differ, some have clip scores and others not, or see
            `evaluate_moment_retrieval`.
    """
    ground_truth = [record for records in splits.values() for record in records]
    notice = None
    written = {str(record["qid"]): record for record in ground_truth}
    submission = [{**record, "qid": written.get(str(record["qid"]), record)["qid"]} for record in submission]
    named = [(record, written[str(record["qid"])]) for record in submission if str(record["qid"]) in written]
    if not named or any(_is_another(record, true) for record, true in named):
        submission, notice = _renumbered(submission, ground_truth)
    owner = {record["qid"]: name for name, records in splits.items() for record in records}
    unknown = [record["qid"] for record in submission if record["qid"] not in owner]
    if unknown:
        raise ValueError(
            f"qid {', '.join(map(repr, unknown[:5]))}{' and more' if len(unknown) > 5 else ''} of the submission "
            f"({len(unknown)} of {len(submission)} queries) not in the annotations; check that both are of the same "
            "split"
        )
    scores = {}
    for name, records in splits.items():
        predictions = [record for record in submission if owner[record["qid"]] == name]
        scores[name] = moment_scores(predictions, records, length_ranges=LENGTH_RANGES, **thresholds)
        if "saliency_scores" in records[0] and any("pred_saliency_scores" in record for record in predictions):
            clips = highlight_scores(predictions, records)
            scores[name] |= {f"highlights/{key}": value for key, value in clips.items()}
    return scores, notice


def _is_another(record: Record, other: Record) -> bool:
    """Whether both name their video and sentence, and neither is the same."""
    return all(
        key in record and key in other and str(record[key]).strip() != str(other[key]).strip()
        for key in ("vid", "query")
    )


def _renumbered(submission: Sequence[Record], ground_truth: Sequence[Record]) -> tuple[list[dict[str, Any]], str]:
    """The submission with the ids of the ground truth, found by video and sentence."""
    unnamed = next((record["qid"] for record in submission if not {"vid", "query"} <= record.keys()), None)
    if unnamed is not None:
        raise ValueError(
            f"no qid of the submission is in the annotations, such as {unnamed!r}, which has no 'vid' and 'query' to "
            "be found by; check that both are of the same split"
        )
    waiting: dict[tuple[Any, Any], list[Any]] = {}
    for record in ground_truth:
        waiting.setdefault(_sentence_of(record), []).append(record["qid"])
    renumbered = []
    for record in submission:
        # A sentence that a video has twice: in order.
        qids = waiting.get(_sentence_of(record))
        if not qids:
            raise ValueError(
                "the submission numbers the queries otherwise than the annotations, which have no sentence "
                f"{record['query']!r} of video {record['vid']!r}, its qid {record['qid']!r}; check that both are of "
                "the same split"
            )
        renumbered.append({**record, "qid": qids.pop(0)})
    return renumbered, "Queries are matched by video and sentence, as the submission numbers them differently."


def _sentence_of(record: Record) -> tuple[Any, Any]:
    return record.get("vid"), str(record.get("query")).strip()
