# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Missing files, and features of another width."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from mesm_plugin.engine.config_loading import read_config
from mesm_plugin.reproduction.file_check import problems_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MESM_DATA", str(tmp_path))
    return tmp_path


def test_every_file_is_named_once(folder: Path) -> None:
    problems = problems_of(read_config("mesm_charades_vgg_glove_paper_protocol"))
    names = ["Charades_v1_test.csv", "Charades_v1_train.csv", "GloVe_tokenized_count.txt", "charades_sta_test.txt"]
    annotations = [folder / "charades" / "annotations" / name for name in [*names, "charades_sta_train.txt"]]
    files = [*annotations, folder / "charades" / "vgg.hdf5", folder / "glove.6B.300d.txt"]
    assert sorted(problems) == sorted(f"{file} is missing" for file in files)


def test_the_test_split_of_qvhighlights_belongs_to_it(folder: Path) -> None:
    problems = problems_of(read_config("qd_detr_qvhighlights_clip_slowfast"))
    annotations = folder / "qvhighlights" / "annotations"
    assert f"{annotations / 'highlight_test_release.jsonl'} is missing" in problems


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        ((5, 1024), "video AB has the shape (5, 1024), expected (clips, 4096)"),
        ((4096,), "video AB has the shape (4096,), expected (clips, 4096)"),
        ((5, 4096), None),
    ],
)
def test_width_of_features(folder: Path, shape: tuple[int, ...], problem: str | None) -> None:
    file = folder / "charades" / "vgg.hdf5"
    file.parent.mkdir()
    with h5py.File(file, "w") as content:
        content["AB"] = np.zeros(shape, np.float32)
    found = [text for text in problems_of(read_config("mesm_charades_vgg_glove")) if "vgg" in text]
    assert found == ([] if problem is None else [f"{file}: {problem}"])


def test_damaged_and_empty_features(folder: Path) -> None:
    file = folder / "charades" / "vgg.hdf5"
    file.parent.mkdir()
    file.write_text("no HDF5")
    config = read_config("mesm_charades_vgg_glove")
    assert any(text.startswith(f"{file} cannot be read as HDF5") for text in problems_of(config))
    with h5py.File(file, "w"):
        pass
    assert f"{file} is empty, expected one data set per video" in problems_of(config)
