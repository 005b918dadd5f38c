# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A picture of predictions at the end of testing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mesm_plugin.registry import HOOKS
from mesm_plugin.structures import GroundingDataSample


@HOOKS.register_module()
class PredictionPlotHook(Hook):
    """Draws the predictions for the first test videos to a file in the work directory.

    Args:
        videos: Number of videos.
        queries: At most so many queries of each.
        top: At most so many moments a query, best first.
        filename: Name of the picture; the ending names the format.
    """

    priority = "LOW"

    def __init__(self, videos: int = 3, queries: int = 1, top: int = 3, filename: str = "predictions.png") -> None:
        self.videos = videos
        self.queries = queries
        self.top = top
        self.filename = filename
        self.path: Path | None = None
        self._samples: list[GroundingDataSample] = []

    def before_test_epoch(self, runner: Runner) -> None:
        """Forgets the videos of an earlier test."""
        self._samples = []

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[GroundingDataSample] | None = None,
    ) -> None:
        """Keeps the first videos."""
        self._samples += list(outputs or ())[: self.videos - len(self._samples)]

    @master_only
    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Draws the picture; `path` is then where it is."""
        from mesm_plugin.visualization import draw_timelines
        from mesm_plugin.visualization.figure_file import save_figure

        if self._samples:
            path = Path(runner.work_dir) / self.filename
            save_figure(draw_timelines(self._samples, queries=self.queries, top=self.top), path)
            self.path = path
