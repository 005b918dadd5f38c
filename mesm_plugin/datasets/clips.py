# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The clip axis: pooling, temporal endpoint features, clips inside a moment."""

import numpy as np


def pool_bounds(num_clips: int, max_clips: int) -> np.ndarray:
    """Ranges of clips that are averaged when a video of more than `max_clips` clips is pooled to `max_clips`.

    Pooled clip j is the mean of clips bounds[j] to bounds[j + 1], the latter not included. As in the released code, the
    bounds are rounded in float32 and cut to num_clips - 1, so that the last clip mostly takes part in no mean.

    Returns:
        (max_clips + 1,) int64, ascending.
    """
    fractions = np.arange(max_clips + 1, dtype=np.float32) / np.float32(max_clips)
    return np.rint(fractions * np.float32(num_clips)).astype(np.int64).clip(max=num_clips - 1)


def pool_clips(features: np.ndarray, max_clips: int | None) -> np.ndarray:
    """Averages (Lv, ...) over ranges of clips down to `max_clips`; shorter videos stay as they are."""
    if max_clips is None or len(features) <= max_clips:
        return features
    bounds = pool_bounds(len(features), max_clips)
    # Where two bounds are equal, reduceat gives the clip at the bound, which is what the released code takes.
    sums = np.add.reduceat(features, bounds, axis=0)[:-1]
    sizes = np.maximum(np.diff(bounds), 1).reshape(-1, *[1] * (features.ndim - 1))
    return sums / sizes.astype(features.dtype)


def endpoint_features(num_clips: int) -> np.ndarray:
    """Temporal endpoint features (TEF): normalised start i / Lv and end (i + 1) / Lv of each clip, (Lv, 2) float32."""
    starts = np.arange(num_clips, dtype=np.float32) / np.float32(num_clips)
    return np.stack((starts, starts + np.float32(1 / num_clips)), axis=1)


def clips_inside(
    moments: np.ndarray, duration: float, num_clips: int, clip_length: float | None, max_clips: int | None
) -> np.ndarray:
    """Which clips of a video lie inside its moments.

    A moment covers clips int(start / clip_length) to int(end / clip_length), BOTH included and cut to the last clip, as
    in the released code; a moment that ends exactly on a border takes the next clip too. Without a clip length the
    clips are int(start / duration * Lv) to int(end / duration * Lv).

    In a video that is pooled to `max_clips`, the clips are those that the original ones were pooled to. The released
    code keeps the indices of the original clips there, so that its masks point to a wrong, later part of the video.

    Args:
        moments: (M, 2) start and end in seconds.
        duration: Of the video, seconds.
        num_clips: Clips of the video before pooling.
        clip_length: Seconds of a clip before pooling; None if the clips divide the duration evenly.
        max_clips: Longer videos are pooled to so many clips; None if none is.

    Returns:
        (Lv,) bool, Lv after pooling; at least one True if there is a moment.
    """
    pooled = max_clips is not None and num_clips > max_clips
    length = max_clips if pooled else num_clips
    assert length is not None
    if clip_length is None:
        indices = (moments / duration * length).astype(np.int64).clip(max=length - 1)
    else:
        indices = (moments / clip_length).astype(np.int64).clip(max=num_clips - 1)
        if pooled:
            starts = pool_bounds(num_clips, length)[:-1]
            indices = np.searchsorted(starts, indices, side="right") - 1
    clips = np.arange(length)
    return np.any((clips >= indices[:, :1]) & (clips <= indices[:, 1:]), axis=0)
