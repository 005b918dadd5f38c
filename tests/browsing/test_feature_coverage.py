# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mesm_plugin.browsing.feature_coverage import feature_coverage, open_features

VIDEOS = [{"vid": vid, "duration": 10.0} for vid in ("a", "b", "c", "d")]


def test_hdf5_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "clips.hdf5", "w") as file:
        file["a"] = np.ones((10, 3))
        file["b"] = np.full((10, 3), np.nan)
        file["c"] = np.ones((12, 3))
    found = feature_coverage(VIDEOS, open_features(tmp_path / "clips.hdf5"))
    assert found["missing"] == ["d"]
    assert list(found["unreadable"]) == ["b"]
    assert "clips.hdf5, video b" in found["unreadable"]["b"]
    assert found["clips"] == {"min": 10, "median": 11, "mean": 11, "max": 12}
    assert found["clips_a_second"] == {"min": 1, "median": 1.1, "mean": 1.1, "max": 1.2}


def write_array(path: Path) -> None:
    array = np.ones((5, 2), np.float32)
    if path.suffix == ".npz":
        np.savez(path, features=array)
    elif path.suffix == ".npy":
        np.save(path, array)
    else:
        torch.save(torch.from_numpy(array), path)


@pytest.mark.parametrize("ending", [".npz", ".npy", ".pt"])
def test_folder(tmp_path: Path, ending: str) -> None:
    write_array(tmp_path / f"a{ending}")
    (tmp_path / f"b{ending}").write_bytes(b"PK broken")
    found = feature_coverage(VIDEOS, open_features(tmp_path))
    assert (found["missing"], list(found["unreadable"]), found["clips"]["max"]) == (["c", "d"], ["b"], 5)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="features not found: .*gone is neither a file nor a folder"):
        open_features(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"has no \.npz, \.npy or \.pt files, expected one a video"):
        open_features(tmp_path)
