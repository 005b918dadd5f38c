# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The picture at the end of testing."""

from types import SimpleNamespace

import numpy as np
import pytest

from mesm_plugin.engine.hooks import PredictionPlotHook
from mesm_plugin.registry import HOOKS
from mesm_plugin.structures import GroundingDataSample


def predicted(vid):
    sample = GroundingDataSample(
        metainfo={"vid": vid, "source": vid, "duration": 4.0, "num_clips": 4, "qids": [0], "sentences": [f"see {vid}"]}
    )
    sample.pred_moments = [np.array([[1.0, 2.0, 0.5]])]
    sample.pred_saliency = [np.arange(4.0)]
    return sample


@pytest.fixture
def drawn(monkeypatch):
    import mesm_plugin.visualization as visualization

    calls = []
    original = visualization.draw_timelines

    def draw(samples, **options):
        calls.append([sample.vid for sample in samples])
        return original(samples, **options)

    monkeypatch.setattr(visualization, "draw_timelines", draw)
    return calls


def run_test(hook, runner, batches):
    hook.before_test_epoch(runner)
    for index, batch in enumerate(batches):
        hook.after_test_iter(runner, index, outputs=[predicted(vid) for vid in batch])
    hook.after_test_epoch(runner, {})


def test_first_videos_are_drawn(tmp_path, drawn):
    hook = HOOKS.build({"type": "PredictionPlotHook", "videos": 3})
    assert isinstance(hook, PredictionPlotHook)
    runner = SimpleNamespace(work_dir=str(tmp_path))
    run_test(hook, runner, [["a", "b"], ["c", "d"], ["e"]])
    assert drawn == [["a", "b", "c"]]
    assert hook.path == tmp_path / "predictions.png"
    assert hook.path.read_bytes().startswith(b"\x89PNG")

    run_test(hook, runner, [["x"]])
    assert drawn[1] == ["x"]


def test_nothing_is_drawn_without_videos(tmp_path):
    hook = PredictionPlotHook()
    run_test(hook, SimpleNamespace(work_dir=str(tmp_path)), [])
    assert hook.path is None
    assert not list(tmp_path.iterdir())
