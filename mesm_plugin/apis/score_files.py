# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Scores a submission file on annotation files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mesm_plugin.apis.ground_truth import read_ground_truth
from mesm_plugin.evaluation.scores import score_submission
from mesm_plugin.evaluation.submission import read_submission


@dataclass(frozen=True)
class FileScores:
    """Scores of a submission.

    Attributes:
        scores: By split, which is called like its annotation file without ending.
        queries: Number of queries of each split.
        notice: What should be said about how queries were matched, if anything.
    """

    scores: dict[str, dict[str, float]]
    queries: dict[str, int]
    notice: str | None


def score_files(
    submission: str | Path,
    annotations: Sequence[str | Path],
    duration_file: str | Path | None = None,
    **thresholds: Sequence[float],
) -> FileScores:
    """Scores a submission on one split or several.

    Args:
        submission: See `read_submission`.
        annotations: See `read_ground_truth`.
        duration_file: Of Charades-STA's videos, see `read_ground_truth`.
        thresholds: See `evaluate_moment_retrieval`.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: A file is broken, two splits have a name or a query in common, or the submission is not of these
            splits; the message names the files.
    """
    splits = {Path(file).stem: read_ground_truth(file, duration_file) for file in annotations}
    if len(splits) < len(annotations):
        raise ValueError(f"annotation files of the same name: {', '.join(map(str, annotations))}")
    owners: dict[object, str] = {}
    for name, records in splits.items():
        for record in records:
            if (other := owners.setdefault(str(record["qid"]), name)) != name:
                raise ValueError(
                    f"{other} and {name} both have a query {record['qid']!r}, so that one submission cannot be of "
                    "both; score each with a submission of its own"
                )
    try:
        scores, notice = score_submission(read_submission(submission), splits, **thresholds)
    except ValueError as error:
        if str(error).startswith(str(submission)):
            raise
        raise ValueError(f"{submission} on {', '.join(map(str, annotations))}: {error}") from error
    return FileScores(scores, {name: len(records) for name, records in splits.items()}, notice)
