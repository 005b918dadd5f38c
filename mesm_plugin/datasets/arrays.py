# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Checks and arithmetic on sequences of feature vectors."""

import numpy as np


def checked_sequence(array: np.ndarray, where: str, row: str, dim: int | None = None) -> np.ndarray:
    """A sequence of feature vectors as float32, checked.

    Args:
        array: (L, D) of any real dtype.
        where: File and entry that the array comes from, for the message.
        row: What a row is: "clip" or "word".
        dim: Expected D; any if None.

    Returns:
        (L, D) float32; the array itself if it is.

    Raises:
        ValueError: Not numbers, not a matrix, empty, not D wide, or a value is NaN or infinite.
    """
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{where}: expected real numbers, got dtype {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{where}: expected shape ({row}s, channels), got {array.shape}")
    if 0 in array.shape:
        raise ValueError(f"{where}: the features are empty, shape {array.shape}")
    check_width(array.shape[1], where, dim)
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    finite = np.isfinite(array)
    if not finite.all():
        index, channel = np.argwhere(~finite)[0]
        rows = int((~finite.all(axis=1)).sum())
        raise ValueError(
            f"{where}: {array[index, channel]} in {row} {index}, channel {channel} ({rows} of {len(array)} {row}s have "
            "NaN or infinite values in float32); extract these features again"
        )
    return array


def check_width(channels: int, where: str, dim: int | None) -> None:
    """Raises ValueError if `dim` is given and another number."""
    if dim is not None and channels != dim:
        raise ValueError(f"{where}: the features have {channels} channels, expected {dim}")


def l2_normalize(array: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Divides each row of (L, D) by its L2 norm, into `out` if it is given; rows of zeros stay zeros."""
    return np.divide(array, np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12), out=out)
