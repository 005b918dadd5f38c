# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from mesm_plugin.datasets.arrays import checked_sequence, l2_normalize


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_real_dtypes_become_float32(dtype: type) -> None:
    checked = checked_sequence(np.array([[1, 2], [3, 4]], dtype=dtype), "f.hdf5, video v", "clip", 2)
    assert checked.dtype == np.float32
    assert checked.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3), r"f.hdf5, video v: expected shape \(clips, channels\), got \(3,\)"),
        (np.zeros((2, 3, 1)), r"expected shape \(clips, channels\), got \(2, 3, 1\)"),
        (np.zeros((0, 3)), r"f.hdf5, video v: the features are empty, shape \(0, 3\)"),
        (np.zeros((4, 3)), "f.hdf5, video v: the features have 3 channels, expected 2"),
        (np.array([[b"a", b"b"]]), "f.hdf5, video v: expected real numbers, got dtype"),
    ],
)
def test_wrong_shape_or_dtype(array: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked_sequence(array, "f.hdf5, video v", "clip", 2)


@pytest.mark.parametrize(("bad", "text"), [(np.nan, "nan"), (-np.inf, "-inf"), (1e300, "inf")])
def test_not_finite(bad: float, text: str) -> None:
    array = np.zeros((5, 2))
    array[3, 1] = array[4, 0] = bad
    message = rf"f.hdf5, video v: {text} in clip 3, channel 1 \(2 of 5 clips have NaN or infinite values"
    with pytest.raises(ValueError, match=message):
        checked_sequence(array, "f.hdf5, video v", "clip")


def test_l2_normalize_leaves_zeros() -> None:
    array = np.array([[3, 4], [0, 0]], dtype=np.float32)
    normalized = l2_normalize(array)
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(normalized, [[0.6, 0.8], [0, 0]], rtol=1e-6)
