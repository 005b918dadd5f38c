# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Clip features from files that a user names."""

import h5py
import numpy as np
import pytest
import torch

from mesm_plugin.apis.feature_files import read_feature_files
from mesm_plugin.datasets import MissingFeaturesError

FEATURES = np.arange(12, dtype=np.float64).reshape(4, 3) + 1


@pytest.fixture
def hdf5(tmp_path):
    path = tmp_path / "features.hdf5"
    with h5py.File(path, "w") as file:
        file["a"] = FEATURES
        file["b"] = FEATURES[:2]
    return path


def test_hdf5(hdf5, tmp_path):
    name, (features,) = read_feature_files([hdf5], "b")
    assert name == "b"
    assert np.array_equal(features, FEATURES[:2])
    with h5py.File(tmp_path / "single.h5", "w") as file:
        file["only"] = FEATURES
    name, (features,) = read_feature_files([tmp_path / "single.h5"])
    assert name == "only"
    assert np.array_equal(features, FEATURES)


def test_tensor_file(tmp_path):
    torch.save(torch.from_numpy(FEATURES), tmp_path / "v1.pt")
    name, (features,) = read_feature_files([tmp_path / "v1.pt"])
    assert name == "v1"
    assert np.array_equal(features, FEATURES)


def test_numpy_files(tmp_path):
    np.save(tmp_path / "v1.npy", FEATURES)
    np.savez(tmp_path / "v2.npz", features=FEATURES, other=FEATURES[:1])
    np.savez(tmp_path / "v3.npz", FEATURES)
    for stem in ("v1.npy", "v2.npz", "v3.npz"):
        name, (features,) = read_feature_files([tmp_path / stem])
        assert name == stem[:2]
        assert np.array_equal(features, FEATURES)
    assert read_feature_files([tmp_path / "v1.npy"], "kitchen")[0] == "kitchen"


def test_hdf5_errors(hdf5, tmp_path):
    with pytest.raises(ValueError, match=r"features.hdf5 holds 2 videos; say which one is meant"):
        read_feature_files([hdf5])
    with pytest.raises(MissingFeaturesError, match=r"has no features of video x \(it holds 2 videos\)"):
        read_feature_files([hdf5], "x")
    with pytest.raises(FileNotFoundError, match="nothing.h5"):
        read_feature_files([tmp_path / "nothing.h5"], "x")
    hdf5.write_bytes(hdf5.read_bytes()[:500])
    with pytest.raises(OSError, match=r"features.hdf5 is truncated or is not an HDF5 file"):
        read_feature_files([hdf5], "a")


def test_numpy_errors(tmp_path):
    np.savez(tmp_path / "two.npz", x=FEATURES, y=FEATURES)
    with pytest.raises(ValueError, match=r"two.npz holds the arrays x, y; expected one, or one called 'features'"):
        read_feature_files([tmp_path / "two.npz"])
    np.save(tmp_path / "cut.npy", FEATURES)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:100])
    with pytest.raises(ValueError, match=r"cut.npy is truncated or is not a NumPy file"):
        read_feature_files([tmp_path / "cut.npy"])
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ValueError, match=r"text.npz is truncated or is not a NumPy file"):
        read_feature_files([tmp_path / "text.npz"])
    with pytest.raises(FileNotFoundError, match=r"none.npy"):
        read_feature_files([tmp_path / "none.npy"])
