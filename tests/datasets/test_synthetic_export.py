# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mesm_plugin.datasets import CharadesSTADataset, SyntheticDataset, Vocabulary, export_synthetic


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "new"
    export_synthetic(folder, {"train": 12, "test": 5}, seed=3, feature_dim=32, word_dim=16)
    return folder


@pytest.fixture
def load(folder: Path) -> Callable[[str], CharadesSTADataset]:
    def make(split: str) -> CharadesSTADataset:
        return CharadesSTADataset(
            data_root=str(folder),
            ann_file=f"charades_sta_{split}.txt",
            duration_file=f"Charades_v1_{split}.csv",
            features={"type": "HDF5FeatureStore", "files": str(folder / "features.hdf5"), "dims": [32]},
            text={
                "type": "GloVeText",
                "file": str(folder / "glove.txt"),
                "vocabulary": str(folder / "GloVe_tokenized_count.txt"),
                "vocabulary_size": 20,
            },
            clip_length=1.0,
            strict=True,
        )

    return make


def test_files(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "Charades_v1_test.csv",
        "Charades_v1_train.csv",
        "GloVe_tokenized_count.txt",
        "charades_sta_test.txt",
        "charades_sta_train.txt",
        "features.hdf5",
        "glove.txt",
    ]
    with h5py.File(folder / "features.hdf5") as file:
        assert len(file) == 17
    counts = [int(line.split()[2]) for line in (folder / "GloVe_tokenized_count.txt").read_text().splitlines()]
    assert counts == sorted(counts, reverse=True)
    assert Vocabulary.from_file(folder / "GloVe_tokenized_count.txt", 20).label("the") < 3


@pytest.mark.parametrize(("split", "count"), [("train", 12), ("test", 5)])
def test_charades_pipeline_gives_the_same_items(
    load: Callable[[str], CharadesSTADataset], split: str, count: int
) -> None:
    direct = SyntheticDataset(split=split, num_videos=count, seed=3, feature_dim=32, word_dim=16)
    from_files = load(split)
    assert len(from_files) == count
    for item, expected in zip(from_files, direct, strict=True):
        assert torch.equal(item["video"], expected["video"])
        sample, other = item["data_sample"], expected["data_sample"]
        assert (sample.vid, sample.duration, sample.num_clips) == (other.vid, other.duration, other.num_clips)
        assert (sample.qids, sample.sentences) == (other.qids, other.sentences)
        np.testing.assert_array_equal(sample.gt_moments, other.gt_moments)
        for query, same in zip(item["queries"], expected["queries"], strict=True):
            for key in ("words", "words_weight", "moments", "segment_mask", "saliency"):
                assert torch.equal(query[key], same[key]), key
            assert query["words_label"].max() <= 20


def test_writing_again_replaces_the_files(folder: Path, tmp_path: Path) -> None:
    options = {"seed": 3, "feature_dim": 32, "word_dim": 16}
    export_synthetic(tmp_path, {"test": 2})
    export_synthetic(tmp_path, {"train": 12, "test": 5}, **options)
    for name in ("charades_sta_train.txt", "glove.txt", "Charades_v1_test.csv", "GloVe_tokenized_count.txt"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert not list(tmp_path.glob("*.tmp"))
