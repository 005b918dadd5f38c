# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import itertools

import numpy as np
import pytest
import torch

from mesm_plugin.datasets.clips import clips_inside, endpoint_features, pool_clips


def _pool_by_definition(features: torch.Tensor, max_clips: int) -> torch.Tensor:
    """Means over rounded ranges, one by one, in float32 as the released code computes them."""
    bounds = torch.arange(0, max_clips + 1, 1.0) / max_clips * len(features)
    bounds = bounds.round().long().clamp(max=len(features) - 1)
    ranges = itertools.pairwise(bounds)
    return torch.stack(
        [features[first:last].mean(dim=0) if first < last else features[first] for first, last in ranges]
    )


@pytest.mark.parametrize(
    ("num_clips", "max_clips"), [(7, 3), (601, 600), (612, 600), (1141, 600), (195, 194), (2, 1), (9, 8)]
)
def test_pooling_is_the_mean_over_rounded_ranges(num_clips: int, max_clips: int) -> None:
    features = torch.randn(num_clips, 3, generator=torch.Generator().manual_seed(0))
    pooled = pool_clips(features.numpy(), max_clips)
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, _pool_by_definition(features, max_clips).numpy(), rtol=1e-5, atol=1e-6)


def test_pooled_numbers() -> None:
    # Bounds 0, 2 (2.33), 5 (4.67), 6 (7 cut to the last clip): the last clip takes part in no mean.
    assert pool_clips(np.array([1, 3, 5, 7, 9, 11, 100], dtype=np.float32), 3).tolist() == [2, 7, 11]


@pytest.mark.parametrize("max_clips", [None, 4, 5])
def test_short_videos_are_not_pooled(max_clips: int | None) -> None:
    features = np.ones((4, 2), dtype=np.float32)
    assert pool_clips(features, max_clips) is features


def test_endpoint_features() -> None:
    np.testing.assert_allclose(endpoint_features(4), [[0, 0.25], [0.25, 0.5], [0.5, 0.75], [0.75, 1]])
    assert endpoint_features(7).dtype == np.float32


def _inside(start: float, end: float, **options: object) -> list[int]:
    arguments = {"duration": 10.0, "num_clips": 10, "clip_length": 1.0, "max_clips": None} | options
    return np.flatnonzero(clips_inside(np.array([[start, end]]), **arguments)).tolist()


def test_both_ends_are_inclusive() -> None:
    assert _inside(2.0, 4.9) == [2, 3, 4]
    assert _inside(2.9, 5.0) == [2, 3, 4, 5]
    assert _inside(0.0, 0.1) == [0]


def test_indices_are_cut_to_the_last_clip() -> None:
    assert _inside(8.0, 10.0) == [8, 9]
    assert _inside(7.0, 9.0, num_clips=6) == [5]
    assert _inside(12.0, 14.0) == [9]


def test_fractional_clip_length() -> None:
    assert _inside(1.0, 1.71, num_clips=60, clip_length=0.17) == [5, 6, 7, 8, 9, 10]


def test_proportional() -> None:
    assert _inside(2.5, 5.0, num_clips=4, clip_length=None) == [1, 2]
    assert _inside(9.0, 10.0, num_clips=4, clip_length=None) == [3]
    # 612 clips pooled to 600: clip 300 starts at half of the video.
    assert _inside(5.0, 5.01, num_clips=612, clip_length=None, max_clips=600) == [300]


def test_several_moments_are_united() -> None:
    mask = clips_inside(np.array([[1.0, 2.5], [6.0, 6.5]]), 10.0, 10, 1.0, None)
    assert np.flatnonzero(mask).tolist() == [1, 2, 6]


def test_indices_of_pooled_videos_are_rescaled() -> None:
    # 20 clips of 1 s to 10: pooled clip j is made of clips 2j and 2j + 1.
    options = {"duration": 20.0, "num_clips": 20, "max_clips": 10}
    assert _inside(6.0, 9.9, **options) == [3, 4]
    assert _inside(7.0, 10.0, **options) == [3, 4, 5]
    assert _inside(18.0, 20.0, **options) == [9]


def test_pooled_mask_agrees_with_pooling_an_indicator() -> None:
    num_clips, max_clips = 1141, 600
    indicator = np.zeros(num_clips, dtype=np.float32)
    indicator[300:401] = 1
    mask = clips_inside(np.array([[300.5, 400.5]]), float(num_clips), num_clips, 1.0, max_clips)
    assert mask.tolist() == (pool_clips(indicator, max_clips) > 0).tolist()
