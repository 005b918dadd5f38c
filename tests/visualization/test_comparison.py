# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What is on the pictures that compare models."""

import numpy as np
import pytest

from mesm_plugin.structures import GroundingDataSample
from mesm_plugin.visualization import draw_comparison

DURATION = 20.0


def make_sample(predicted, truth=((2.0, 6.0),), sentence="a person opens a door", clips=10):
    sample = GroundingDataSample(
        metainfo={
            "vid": "AO8RW",
            "source": "AO8RW",
            "duration": DURATION,
            "num_clips": clips,
            "qids": [0],
            "sentences": [sentence],
        }
    )
    if truth is not None:
        sample.set_metainfo({"gt_moments": [np.array(truth)]})
    sample.pred_moments = [np.array([(*moment, 0.5) for moment in predicted])]
    return sample


def bars_of(axes):
    """Start and end of the bars, and not of the shade behind them."""
    bars = [patch for container in axes.containers for patch in container.patches]
    return [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars]


def texts_of(axes):
    return [text.get_text() for text in axes.texts]


def test_moments_of_every_model():
    figure = draw_comparison([make_sample([(2.0, 8.0), (0.0, 1.0)]), make_sample([(10.0, 12.5)])], ["MESM", "QD-DETR"])
    strip, bars = figure.axes
    assert np.allclose(bars_of(bars), [(2, 6), (2, 8), (10, 12.5)])
    assert texts_of(bars) == [
        *["Ground truth", "", "2.0 s", "6.0 s"],
        *["MESM", "IoU 0.67", "2.0 s", "8.0 s"],
        *["QD-DETR", "IoU 0.00", "10.0 s", "12.5 s"],
    ]
    assert strip.collections[0].get_array().size == 10
    assert [text.get_text() for text in figure.texts] == ["“a person opens a door”", "video AO8RW, 20.0 s"]


def test_as_many_predictions_as_true_moments():
    predicted = [(1.0, 3.0), (10.0, 12.0), (11.0, 13.0), (5.0, 6.0)]
    figure = draw_comparison([make_sample(predicted, [(1.0, 2.0), (9.0, 12.0), (17.0, 18.0)])], ["MESM"])
    assert len(bars_of(figure.axes[1])) == 3 + 3
    assert not any("IoU" in text for text in texts_of(figure.axes[1]))
    # The second and third overlap, and lie in lanes of their own.
    heights = [round(patch.get_y(), 3) for container in figure.axes[1].containers[3:] for patch in container.patches]
    assert heights[0] == heights[1] != heights[2]


def test_without_truth():
    figure = draw_comparison([make_sample([(2.0, 8.0)], truth=None)], ["MESM"])
    assert texts_of(figure.axes[1]) == ["MESM", "", "2.0 s", "8.0 s"]


def test_frames_cover_the_video():
    frames = [np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)]
    strip = draw_comparison([make_sample([(2.0, 8.0)])], ["MESM"], frames).axes[0]
    extents = [image.get_extent()[:2] for image in strip.images]
    assert np.allclose(extents, [(0, 10), (10, 20)], atol=0.05)


@pytest.mark.parametrize("moment", [(0.0, 0.0), (20.0, 20.0), (0.0, 20.0), (19.0, 24.0), (9.99, 10.0)])
def test_bars_can_be_seen_and_stay_in_the_video(moment):
    axes = draw_comparison([make_sample([moment], truth=None)], ["MESM"]).axes[1]
    ((start, end),) = bars_of(axes)
    assert start >= 0
    assert end <= DURATION + 1e-9
    assert end - start >= DURATION / 400
    assert texts_of(axes)[2:] == [f"{moment[0]:.1f} s", f"{moment[1]:.1f} s"]


@pytest.mark.parametrize("moments", [[(0.0, 0.5), (19.5, 20.0), (10, 10)], [(n, n + 0.5) for n in range(20)]])
@pytest.mark.parametrize("sentence", ["word " * 100, "x" * 300, "short, for $5 and $6_a"])
def test_no_text_collides_or_leaves_the_picture(moments, sentence):
    figure = draw_comparison(
        [make_sample(moments, moments, sentence), make_sample([(0.0, 20.0)], moments, sentence)],
        ["mesm_charades_simulated_with_more", "WWWWWWWWWWWWWWWW"],
    )
    figure.canvas.draw()
    texts = [text for text in (*figure.texts, *figure.axes[1].texts) if text.get_text()]
    boxes = [text.get_window_extent().shrunk(0.98, 0.8) for text in texts]
    width, height = figure.canvas.get_width_height()
    for text, box in zip(texts, boxes, strict=True):
        inside = box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height
        assert inside, text.get_text()
    overlaps = [
        (one.get_text(), other.get_text())
        for i, (one, box) in enumerate(zip(texts, boxes, strict=True))
        for other, other_box in zip(texts[:i], boxes[:i], strict=True)
        if box.overlaps(other_box)
    ]
    assert overlaps == []


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="there is no query to draw"):
        draw_comparison([], [])
    with pytest.raises(ValueError, match="got 2 labels for 1 models"):
        draw_comparison([make_sample([(2.0, 8.0)])], ["a", "b"])
