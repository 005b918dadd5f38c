# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The statistics in docs/datasets/ are those of the published files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mesm_plugin.browsing.dataset_record import CountedVocabulary, describe
from mesm_plugin.browsing.opened_splits import open_published
from mesm_plugin.datasets.dataset_names import published_dataset

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    "charades": "charades_sta",
    "charades_cg": "charades_cg",
    "charades_cd": "charades_cd",
    "tacos": "tacos",
    "qvhighlights": "qvhighlights",
}
NONE = "-"


def _spread(key: str, digits: int) -> Callable[[dict[str, Any]], str]:
    def cell(split: dict[str, Any]) -> str:
        values = split.get(key)
        if values is None:
            return NONE
        low, middle, mean, high = (f"{values[name]:.{digits}f}" for name in ("min", "median", "mean", "max"))
        return f"{low}, {middle}, {mean}, {high}"

    return cell


def _outside(shares: dict[str, float] | None) -> str:
    return NONE if shares is None else f"{shares['occurrences']:.2%} / {shares['distinct_words']:.2%}"


def _of_words(split: dict[str, Any]) -> str:
    return _outside(next(iter(split["outside_classes"].values()), None))


ROWS: dict[str, Callable[[dict[str, Any]], str]] = {
    "videos": lambda split: str(split["videos"]),
    "source videos": lambda split: NONE if split["sources"] == split["videos"] else str(split["sources"]),
    "hours": lambda split: f"{split['hours']:.1f}",
    "duration, s: min, median, mean, max": _spread("duration", 1),
    "queries": lambda split: str(split["queries"]),
    "queries a video": _spread("queries_a_video", 1),
    "moments": lambda split: str(split["moments"] or NONE),
    "length of a moment, s": _spread("moment_seconds", 1),
    "length of a moment / duration": _spread("moment_share", 3),
    "words a sentence": _spread("words_a_sentence", 1),
    "words": lambda split: str(split["words"]),
    "distinct words": lambda split: str(split["distinct_words"]),
    "not in `train`: of words / of distinct words": lambda split: _outside(split.get("unseen_in_train")),
    "without a class: of words / of distinct words": _of_words,
}


def statistics_table(name: str, data: Path) -> str:
    """The table of a page."""
    opened = open_published(published_dataset(name, data))
    splits = {split: dataset.load_data_list() for split, dataset in opened.splits.items()}
    vocabularies = [CountedVocabulary.read(path, size) for path, size in opened.vocabularies.items()]
    columns = describe(opened, splits, vocabularies)["splits"]
    lines = [" | ".join(["|", *columns]) + " |", "|" + "---|" * (len(columns) + 1)]
    for label, cell in ROWS.items():
        cells = [cell(split) for split in columns.values()]
        if set(cells) != {NONE}:
            lines.append("| " + " | ".join([label, *cells]) + " |")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", PAGES)
def test_statistics(name: str, shared: Path) -> None:
    page = DOCS / "datasets" / f"{PAGES[name]}.md"
    assert statistics_table(name, shared / "data") in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES.values())
def test_pictures_are_small(page: str) -> None:
    assert (DOCS / "images" / f"{page}.png").stat().st_size < 120_000
