# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np

from mesm_plugin.models.grounders.post_process import MomentPostProcess

MOMENTS = np.array([[0.1, 0.37, 0.2], [-0.2, 0.5, 0.9], [0.4, 1.3, 0.2]], dtype=np.float32)


def test_sorted_scaled_and_clamped_to_the_duration() -> None:
    expected = [[0.0, 5.0, 0.9], [1.0, 3.7, 0.2], [4.0, 10.0, 0.2]]
    np.testing.assert_allclose(MomentPostProcess()(MOMENTS, 10.0), expected, rtol=1e-6)


def test_released_limits_and_rounding() -> None:
    expected = [[0.0, 4.0, 0.9], [0.0, 4.0, 0.2], [4.0, 12.0, 0.2]]
    np.testing.assert_allclose(MomentPostProcess(max_seconds=12.0, round_to=4.0)(MOMENTS, 10.0), expected, rtol=1e-6)
