# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""How much of the text is contained in the segment, before and after both are enhanced (MESM, Fig. 5)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mesm_plugin.analysis.query_features import QueryFeatures
from mesm_plugin.analysis.subspace_similarity import chance_similarity, principal_directions, subspace_similarity


@dataclass(frozen=True)
class Pair:
    """Text and segment features that are compared: a line of Fig. 5.

    Attributes:
        key: Name in files.
        text: Field of `QueryFeatures`.
        segment: Field of `QueryFeatures`.
        label: With the symbols of the paper.
        of_other: Whether the features are those of the model that was trained without masked words.
    """

    key: str
    text: str
    segment: str
    label: str
    of_other: bool = False


PAIRS = (
    Pair("words_segment", "words", "segment", "F_q, F_v"),
    Pair("words_enhanced_segment_without_mlm", "words", "enhanced_segment", "F_q, F_v^enh without MLM", of_other=True),
    Pair("words_enhanced_segment", "words", "enhanced_segment", "F_q, F_v^enh"),
    Pair("enhanced_words_enhanced_segment", "enhanced_words", "enhanced_segment", "F_q^enh, F_v^enh"),
)
"""The four lines of Fig. 5, from the first to the fourth."""


@dataclass
class Curve:
    """The similarities of one pair of features, over queries.

    Attributes:
        pair: What was compared.
        values: One array phi(1), phi(2), ... a query.
        chance: What they are on average between random subspaces of these sizes.
    """

    pair: Pair
    values: list[np.ndarray] = field(default_factory=list)
    chance: list[np.ndarray] = field(default_factory=list)

    def over_queries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """For i = 1, 2, ...: mean and standard deviation over the queries that have so many singular vectors, their
        number, and the mean of chance."""
        longest = max(map(len, self.values))
        rows = np.full((2, len(self.values), longest), np.nan)
        for row, (values, chance) in enumerate(zip(self.values, self.chance, strict=True)):
            rows[0, row, : len(values)] = values
            rows[1, row, : len(chance)] = chance
        count = np.isfinite(rows[0]).sum(axis=0)
        return np.nanmean(rows[0], axis=0), np.nanstd(rows[0], axis=0), count, np.nanmean(rows[1], axis=0)

    def of_whole_text(self) -> np.ndarray:
        """(queries,) similarity of the subspaces of all words and all clips."""
        return np.array([values[-1] for values in self.values])

    def of_first(self) -> np.ndarray:
        """(queries,) similarity of the first singular vector of the text."""
        return np.array([values[0] for values in self.values])


class AlignmentStudy:
    """Subspace similarities of text and segment, of one or more queries.

    Args:
        features: Of the queries, from the model.
        without_mlm: Of the same queries in the same order, from a model trained without masked words, if there is one.

    Attributes:
        features: As given.
        curves: Those of `PAIRS` whose features there are.
        left_out: Why the others are not there, by key.

    Raises:
        ValueError: There is no query, or the two models' queries differ.
    """

    def __init__(self, features: Iterable[QueryFeatures], without_mlm: Iterable[QueryFeatures] | None = None) -> None:
        self.features = list(features)
        others = None if without_mlm is None else list(without_mlm)
        if not self.features:
            raise ValueError("there is no query with a clip inside its moment")
        if others is not None:
            _check_same_queries(self.features, others)
        self.curves: list[Curve] = []
        self.left_out: dict[str, str] = {}
        for pair in PAIRS:
            source = others if pair.of_other else self.features
            if source is None:
                self.left_out[pair.key] = "no model that was trained without masked words was given"
                continue
            missing = [name for name in (pair.text, pair.segment) if getattr(source[0], name) is None]
            if missing:
                part = "SS-MESM" if missing[0] == "enhanced_words" else "FW-MESM"
                model = "model that was trained without masked words" if pair.of_other else "model"
                self.left_out[pair.key] = f"the {model} has no {part}"
                continue
            self.curves.append(_curve(pair, source))

    def record(self) -> dict[str, Any]:
        """All numbers, as JSON can hold them."""
        queries = [
            {"qid": query.qid, "video": query.vid, "sentence": query.sentence, "clips": len(query.segment)}
            for query in self.features
        ]
        return {
            "queries": queries,
            "pairs": {curve.pair.key: _curve_record(curve) for curve in self.curves},
            "left_out": self.left_out,
        }


def _curve(pair: Pair, features: list[QueryFeatures]) -> Curve:
    curve = Curve(pair)
    for query in features:
        text, segment = getattr(query, pair.text), getattr(query, pair.segment)
        values = subspace_similarity(text, segment)
        curve.values.append(values)
        rank = len(principal_directions(segment))
        curve.chance.append(chance_similarity(len(values), rank, segment.shape[1]))
    return curve


def _curve_record(curve: Curve) -> dict[str, Any]:
    mean, spread, count, chance = curve.over_queries()
    return {
        "label": curve.pair.label,
        "mean": mean.tolist(),
        "standard_deviation": spread.tolist(),
        "queries_with_so_many": count.tolist(),
        "chance": chance.tolist(),
        "whole_text_mean": float(curve.of_whole_text().mean()),
        "whole_text_standard_deviation": float(curve.of_whole_text().std()),
        "similarity": [values.tolist() for values in curve.values],
    }


def _check_same_queries(features: list[QueryFeatures], others: list[QueryFeatures]) -> None:
    mine = [(query.vid, query.sentence) for query in features]
    theirs = [(query.vid, query.sentence) for query in others]
    if mine != theirs:
        raise ValueError(
            "the data sets of the two configs have other queries under the same ids, expected one data set for both "
            "(annotations, split and clip length)"
        )
