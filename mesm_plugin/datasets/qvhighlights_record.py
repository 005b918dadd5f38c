# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A line of QVHighlights' annotation files, checked."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mesm_plugin.datasets.files import shown
from mesm_plugin.datasets.text.words import split_words

ANNOTATORS, HIGHEST_GRADE = 3, 4
_LABELS = ("relevant_windows", "relevant_clip_ids", "saliency_scores")


@dataclass
class QVHighlightsRecord:
    """A query with its clip sequence, and its labels where there are any.

    Attributes:
        qid: Unique in the file.
        sentence: As published.
        vid: The clip sequence, "source_start_end".
        source: The video that it was cut from.
        start: Where in the source it starts, seconds.
        duration: Seconds.
        moments: M pairs of start and end in seconds; None in an unlabelled split.
        clips: Indices of the n clips inside the moments.
        grades: (n, 3) grades of the annotators, 0 to 4.
    """

    qid: int | str
    sentence: str
    vid: str
    source: str
    start: float
    duration: float
    moments: list[list[float]] | None
    clips: list[int]
    grades: list[list[int]]


def parse_record(record: Any, where: str, clip_length: float) -> QVHighlightsRecord:
    """Checks the JSON value of one line.

    Args:
        record: The value.
        where: File and line, for the messages.
        clip_length: Seconds of a clip.

    Raises:
        ValueError: A key is missing or its value does not fit; the message names it.
    """

    def require(fits: bool, key: str, expected: str) -> None:
        if not fits:
            found = shown(record[key]) if key in record else "missing"
            raise ValueError(f"{where}: {key!r} is {found}, expected {expected}")

    if not isinstance(record, dict):
        raise ValueError(f"{where}: expected a JSON object with a query, got {type(record).__name__}")
    values: dict[str, Any] = {key: record.get(key) for key in ("qid", "query", "vid", "duration", *_LABELS)}
    qid, sentence, vid, duration, moments, clips, grades = values.values()
    require(isinstance(qid, (int, str)) and not isinstance(qid, bool), "qid", "a number or a name")
    require(isinstance(sentence, str) and bool(split_words(sentence)), "query", "a sentence with at least one word")
    fits = _is_seconds(duration) and duration >= clip_length
    require(fits, "duration", f"seconds, at least {clip_length:g}, which is one clip")
    source, *cut = vid.rsplit("_", 2) if isinstance(vid, str) else ("",)
    start = _seconds(cut[0]) if len(cut) == 2 else math.nan
    end = _seconds(cut[1]) if len(cut) == 2 else math.nan
    require(
        bool(source) and 0 <= start < end < math.inf,
        "vid",
        "the form 'source_start_end', such as 'RoripwjYFp8_360.0_510.0'",
    )

    if any(key in record for key in _LABELS):
        expected = f"a list of [start, end], 0 <= start < end <= {duration} seconds"
        require(_is_rows(moments, 2, lambda x: _is_seconds(x) and x <= duration), "relevant_windows", expected)
        require(all(start < end for start, end in moments), "relevant_windows", expected)
        total = int(duration / clip_length)
        fits = isinstance(clips, list) and all(type(clip) is int and 0 <= clip < total for clip in clips)
        expected = f"a list of different indices of the {total} clips of {clip_length:g} seconds"
        require(fits and 0 < len(clips) == len(set(clips)), "relevant_clip_ids", expected)
        fits = _is_rows(grades, ANNOTATORS, lambda x: type(x) is int and 0 <= x <= HIGHEST_GRADE)
        expected = f"{ANNOTATORS} grades from 0 to {HIGHEST_GRADE} for each of the {len(clips)} relevant_clip_ids"
        require(fits and len(grades) == len(clips), "saliency_scores", expected)
    return QVHighlightsRecord(qid, sentence, vid, source, start, duration, moments, clips or [], grades or [])


def _is_rows(rows: Any, columns: int, fits: Callable[[Any], bool]) -> bool:
    return (
        isinstance(rows, list)
        and bool(rows)
        and all(isinstance(row, list) and len(row) == columns and all(map(fits, row)) for row in rows)
    )


def _is_seconds(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
