# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What is on the pictures of predictions."""

import numpy as np
import pytest
from matplotlib import pyplot

from mesm_plugin.structures import GroundingDataSample
from mesm_plugin.visualization import draw_timelines


@pytest.fixture
def sample():
    sample = GroundingDataSample(
        metainfo={
            "vid": "AO8RW",
            "source": "AO8RW",
            "duration": 20.0,
            "num_clips": 10,
            "qids": [0, 1],
            "sentences": ["a person opens a door", "a dog sleeps"],
            "gt_moments": [np.array([[2.0, 6.0], [9.0, 11.0]]), np.array([[0.0, 20.0]])],
        }
    )
    sample.pred_moments = [
        np.array([[1.5, 6.5, 0.9], [14.0, 19.0, 0.4], [0.0, 20.0, 0.1]]),
        np.array([[3.0, 3.0, 0.7]]),
    ]
    sample.pred_saliency = [np.linspace(-1, 1, 10), np.zeros(10)]
    return sample


def bars_of(axes):
    return [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches]


def texts_of(figure):
    return [text.get_text() for text in figure.texts]


def test_every_query_has_its_moments(sample):
    figure = draw_timelines([sample])
    bars, strip, curve = figure.axes[:3]
    assert bars_of(bars) == [(2.0, 6.0), (9.0, 11.0), (1.5, 6.5), (14.0, 19.0), (0.0, 20.0)]
    assert [label.get_text() for label in bars.get_yticklabels()] == ["true", "#1", "#2", "#3"]
    notes = [text.get_text() for text in bars.texts]
    assert notes[0] == "2.0 - 6.0 s"
    assert notes[2] == "1.5 - 6.5 s   score 0.90"
    assert bars.get_xlim() == (0.0, 20.0)
    assert strip.collections[0].get_array().size == 10
    assert np.allclose(curve.lines[0].get_xdata(), np.arange(10) * 2 + 1)
    assert np.allclose(curve.lines[0].get_ydata(), np.linspace(0, 1, 10))
    assert len(figure.axes) == 6
    assert texts_of(figure)[:2] == ["“a person opens a door”", "video AO8RW, 20.0 s"]


def test_limits_on_queries_and_moments(sample):
    figure = draw_timelines([sample, sample], queries=1, top=2)
    assert len(figure.axes) == 6
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["true", "#1", "#2"]


def test_a_moment_without_length_can_be_seen(sample):
    start, end = bars_of(draw_timelines([sample]).axes[3])[1]
    assert start == 3.0
    assert end > 3.0


def test_without_labels_and_saliency(sample):
    unlabelled = GroundingDataSample(
        metainfo={key: value for key, value in sample.metainfo_items() if key != "gt_moments"}
    )
    unlabelled.pred_moments = sample.pred_moments
    figure = draw_timelines([unlabelled])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["#1", "#2", "#3"]
    assert len(figure.axes[2].lines) == 0


def test_long_sentence_is_shortened(sample):
    sample.set_metainfo({"sentences": ["word " * 60, "short"]})
    assert texts_of(draw_timelines([sample]))[0].endswith("word ...”")
    assert len(texts_of(draw_timelines([sample]))[0]) <= 92


def test_dollars_are_no_formula(sample):
    sample.set_metainfo({"sentences": ["it costs $5 and $\\6", "short"]})
    draw_timelines([sample]).canvas.draw()


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="there is no query to draw"):
        draw_timelines([])


def test_figure_is_not_known_to_pyplot(sample):
    before = pyplot.get_fignums()
    draw_timelines([sample])
    assert pyplot.get_fignums() == before


def test_many_clips_are_not_covered_by_the_lines_between(sample):
    sample.set_metainfo({"num_clips": 3000})
    sample.pred_saliency = [np.linspace(-1, 1, 3000)] * 2
    (mesh,) = draw_timelines([sample]).axes[1].collections
    assert mesh.get_linewidth() == 0
