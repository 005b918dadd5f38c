# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The statistics of a data set as text."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Split = Mapping[str, Any]
Row = tuple[str, Callable[[Split], str]]
_NONE = "-"
_ORDER = "minimum, median, mean, maximum"


def dataset_table(record: Mapping[str, Any]) -> str:
    """A column per split and a row per number, then what splits share and what features lack.

    Args:
        record: As `mesm_plugin.browsing.dataset_record.describe` makes it.
    """
    lines = [f"{record['dataset']}, annotations: {record['annotations']}", f"Of distributions: {_ORDER}", ""]
    splits = record["splits"]
    rows = [(label, [cell(split) for split in splits.values()]) for label, cell in _rows(record)]
    rows = [(label, cells) for label, cells in rows if set(cells) != {_NONE}]
    width = max(len(label) for label, _ in rows)
    widths = [max(len(name), *(len(cells[i]) for _, cells in rows)) for i, name in enumerate(splits)]
    for label, cells in [("", list(splits)), *rows]:
        columns = [cell.rjust(size) for cell, size in zip(cells, widths, strict=True)]
        lines.append("   ".join([label.ljust(width), *columns]).rstrip())
    if not any(split["repairs"] for split in splits.values()):
        lines += ["", "Nothing was repaired or dropped."]
    return "\n".join([*lines, "", *_vocabularies(record), *_shared(record), *_lacking(splits)]).rstrip()


def _rows(record: Mapping[str, Any]) -> Iterator[Row]:
    splits = record["splits"].values()
    yield "videos", _number("videos")
    if any(split["sources"] != split["videos"] for split in splits):
        yield "source videos", _number("sources")
    yield "hours", lambda split: f"{split['hours']:.1f}"
    yield from _distribution("duration, s", "duration", 1)
    yield "queries", _number("queries")
    yield from _distribution("queries a video", "queries_a_video", 1)
    yield "moments", _number("moments")
    if any(set(split.get("moments_a_query", ())) - {"1"} for split in splits):
        for count in ("1", "2", "3", "4", "5"):
            yield f"queries of {count} moment{'s' if count != '1' else ''}", _count("moments_a_query", count)
        yield "queries of more moments", _more_than_five
    yield from _distribution("length of a moment, s", "moment_seconds", 1)
    yield from _distribution("length of a moment / duration", "moment_share", 3)
    yield "graded clips", _number("graded_clips")
    for grade in sorted({grade for split in splits for grade in split.get("grades", ())}):
        yield f"grades of {grade}", _grade_share(grade)
    yield "clips that all graded 0", _number("clips_graded_zero")
    yield "words", _number("words")
    yield "distinct words", _number("distinct_words")
    yield from _distribution("words a sentence", "words_a_sentence", 1)
    yield from _outside("not in train", lambda split: split.get("unseen_in_train"))
    yield from _outside("without vector", lambda split: split.get("without_vector"))
    for vocabulary in record["vocabularies"]:
        yield from _outside(f"beyond the {vocabulary['classes']} classes", _outside_classes(vocabulary["file"]))
    for quirk in dict.fromkeys(quirk for split in splits for quirk in split["repairs"]):
        yield f"repairs: {quirk}", _count("repairs", quirk)
    for name in dict.fromkeys(name for split in splits for name in split["features"]):
        yield f"videos without {Path(name).name}", _missing(name)
        yield f"unreadable in {Path(name).name}", _unreadable(name)
        yield f"clips in {Path(name).name}", _feature_cells(name, "clips", 0)
        yield "clips a second", _feature_cells(name, "clips_a_second", 3)


def _number(key: str) -> Callable[[Split], str]:
    return lambda split: _NONE if split.get(key) is None else str(split[key])


def _count(key: str, entry: str) -> Callable[[Split], str]:
    return lambda split: str(split[key].get(entry, 0)) if key in split else _NONE


def _more_than_five(split: Split) -> str:
    if "moments_a_query" not in split:
        return _NONE
    return str(sum(count for moments, count in split["moments_a_query"].items() if int(moments) > 5))


def _grade_share(grade: str) -> Callable[[Split], str]:
    def cell(split: Split) -> str:
        grades = split.get("grades")
        return f"{grades.get(grade, 0) / sum(grades.values()):.1%}" if grades else _NONE

    return cell


def _outside_classes(file: str) -> Callable[[Split], Mapping[str, float] | None]:
    return lambda split: split["outside_classes"].get(file)


def _missing(name: str) -> Callable[[Split], str]:
    return lambda split: str(len(split["features"][name]["missing"]))


def _unreadable(name: str) -> Callable[[Split], str]:
    return lambda split: str(len(split["features"][name]["unreadable"]) or _NONE)


def _distribution(label: str, key: str, digits: int) -> Iterator[Row]:
    yield label, lambda split: _cells(split.get(key), digits)


def _feature_cells(name: str, key: str, digits: int) -> Callable[[Split], str]:
    return lambda split: _cells(split["features"][name].get(key), digits)


def _cells(values: Mapping[str, float] | None, digits: int) -> str:
    if values is None:
        return _NONE
    return "  ".join(f"{values[name]:.{digits}f}" for name in ("min", "median", "mean", "max"))


def _outside(label: str, get: Callable[[Split], Mapping[str, float] | None]) -> Iterator[Row]:
    def cell(key: str) -> Callable[[Split], str]:
        def share(split: Split) -> str:
            shares = get(split)
            return _NONE if shares is None else f"{shares[key]:.2%}"

        return share

    yield f"words {label}", cell("occurrences")
    yield f"distinct words {label}", cell("distinct_words")


def _vocabularies(record: Mapping[str, Any]) -> Iterator[str]:
    for vocabulary in record["vocabularies"]:
        yield (
            f"{vocabulary['file']}: {vocabulary['entries']} entries, {vocabulary['classes']} classes; "
            f"{vocabulary['counted_outside_classes']:.2%} of the counted occurrences are of other entries"
        )


def _shared(record: Mapping[str, Any]) -> Iterator[str]:
    pairs = {(first, second): n for first, others in record["shared_videos"].items() for second, n in others.items()}
    if pairs and not any(pairs.values()):
        yield "No two splits share a source video."
    for (first, second), count in pairs.items():
        if count:
            yield f"{first} and {second} share {count} source videos."


def _lacking(splits: Mapping[str, Split]) -> Iterator[str]:
    for name, split in splits.items():
        for file, coverage in split["features"].items():
            missing = coverage["missing"]
            if missing:
                more = ", ..." if len(missing) > 5 else ""
                yield f"{name}: {len(missing)} videos are not in {file}: {', '.join(missing[:5])}{more}"
            yield from (f"{name}: {problem}" for problem in coverage["unreadable"].values())
