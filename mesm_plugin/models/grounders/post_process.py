# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""From normalised spans to ranked moments in seconds."""

import numpy as np


class MomentPostProcess:
    """Scales, sorts, clamps and rounds predicted moments (as the released code does).

    Args:
        max_seconds: Moments are clamped to 0 .. max_seconds; None = to the duration of the video.
        round_to: Seconds that starts and ends are rounded to a multiple of (the clip length); None = no rounding.
    """

    def __init__(self, max_seconds: float | None = None, round_to: float | None = None) -> None:
        self.max_seconds = max_seconds
        self.round_to = round_to

    def __call__(self, moments: np.ndarray, duration: float) -> np.ndarray:
        """Post-processes the moments of one query.

        Args:
            moments: (N, 3) normalised start and end, and score.
            duration: Seconds.

        Returns:
            (N, 3) float64 start and end in seconds and score, best first; equal scores keep their order.
        """
        moments = moments[np.argsort(-moments[:, 2], kind="stable")].astype(np.float64)
        limit = duration if self.max_seconds is None else self.max_seconds
        seconds = (moments[:, :2] * duration).clip(0.0, limit)
        if self.round_to is not None:
            seconds = np.round(seconds / self.round_to) * self.round_to
        return np.concatenate((seconds, moments[:, 2:]), axis=1)
