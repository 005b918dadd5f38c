# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The four lines of Fig. 5 over queries."""

import json

import numpy as np
import pytest

from mesm_plugin.analysis import PAIRS, AlignmentStudy, QueryFeatures
from mesm_plugin.analysis.similarity_figure import draw_similarities

KEYS = [pair.key for pair in PAIRS]


def query(words, segment, qid=0, **changes):
    """Features with the unit vectors of the given axes as rows; enhanced words have one more."""
    axes = np.eye(8)
    given = {
        "words": axes[words],
        "enhanced_words": axes[[7, *words]],
        "segment": axes[segment],
        "enhanced_segment": axes[[*segment, 7]],
    }
    return QueryFeatures(qid, "v", f"sentence {qid}", **{**given, **changes})


def test_which_features_are_compared():
    study = AlignmentStudy([query([0, 1], [2, 3])], [query([0, 1], [0, 1])])
    assert [curve.pair.key for curve in study.curves] == KEYS
    # Equal singular values leave the order of the vectors open, so that only the whole text is certain.
    whole = {curve.pair.key: curve.of_whole_text()[0] for curve in study.curves}
    assert whole == pytest.approx(dict(zip(KEYS, [0, 1, 0, 1 / 3], strict=True)))
    assert study.left_out == {}


def test_mean_over_the_queries_that_have_so_many_words():
    study = AlignmentStudy([query([0], [0], 0), query([1, 2], [3], 1), query([4], [4, 5], 2)])
    mean, spread, count, chance = study.curves[0].over_queries()
    assert mean == pytest.approx([2 / 3, 0])
    assert spread == pytest.approx([np.std([1, 0, 1]), 0])
    assert count.tolist() == [3, 1]
    assert chance == pytest.approx([(1 + 1 + 2) / 3 / 8, 2 / 8])


def test_what_is_missing_is_left_out_and_said():
    study = AlignmentStudy([query([0], [1], enhanced_words=None)])
    assert [curve.pair.key for curve in study.curves] == [KEYS[0], KEYS[2]]
    assert study.left_out == {
        KEYS[1]: "no model that was trained without masked words was given",
        KEYS[3]: "the model has no SS-MESM",
    }
    study = AlignmentStudy([query([0], [1])], [query([0], [1], enhanced_segment=None)])
    assert study.left_out == {KEYS[1]: "the model that was trained without masked words has no FW-MESM"}
    study = AlignmentStudy([query([0], [1], enhanced_segment=None)])
    assert [curve.pair.key for curve in study.curves] == [KEYS[0]]
    assert study.left_out[KEYS[2]] == study.left_out[KEYS[3]] == "the model has no FW-MESM"


def test_record():
    record = json.loads(json.dumps(AlignmentStudy([query([0, 1], [0], 3)]).record(), allow_nan=False))
    assert record["queries"] == [{"qid": 3, "video": "v", "sentence": "sentence 3", "clips": 1}]
    line = record["pairs"]["words_segment"]
    assert len(line["mean"]) == len(line["similarity"][0]) == 2
    assert line["whole_text_mean"] == pytest.approx(1)


def test_other_queries():
    with pytest.raises(ValueError, match="have other queries under the same ids"):
        AlignmentStudy([query([0], [0], 0)], [query([0], [0], 1)])
    with pytest.raises(ValueError, match="no query with a clip inside its moment"):
        AlignmentStudy([])


@pytest.mark.parametrize("queries", [1, 3])
def test_figure(queries):
    study = AlignmentStudy([query([0, 1], [2], number) for number in range(queries)])
    (axes,) = draw_similarities(study).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "1  $F_q$, $F_v$",
        "3  $F_q$, $F_v^{enh}$",
        "4  $F_q^{enh}$, $F_v^{enh}$",
        "random subspaces",
    ]
    solid = [line for line in axes.lines if line.get_linestyle() == "-"]
    assert [len(line.get_xdata()) for line in solid] == [2, 2, 3]
    assert np.allclose(solid[0].get_ydata(), 0)
    assert len(axes.collections) == (3 if queries > 1 else 0)


def test_lines_end_where_few_sentences_are_as_long():
    study = AlignmentStudy([query([0], [1], number) for number in range(19)] + [query([0, 1, 2], [3], 19)])
    (axes,) = draw_similarities(study).axes
    solid = [line for line in axes.lines if line.get_linestyle() == "-"]
    assert [len(line.get_xdata()) for line in solid] == [1, 1, 2]
