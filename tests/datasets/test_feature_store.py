# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from mesm_plugin.datasets import HDF5FeatureStore, MissingFeaturesError
from mesm_plugin.registry import DATASETS

WriteHDF5 = Callable[..., str]


def test_built_by_bare_name(write_hdf5: WriteHDF5) -> None:
    store = DATASETS.build({"type": "HDF5FeatureStore", "files": write_hdf5(v=[[3.0, 4.0]])})
    np.testing.assert_allclose(store["v"], [[0.6, 0.8]], rtol=1e-6)


def test_float16_becomes_float32_and_norm_is_optional(write_hdf5: WriteHDF5) -> None:
    store = HDF5FeatureStore(write_hdf5(v=np.array([[3, 4], [6, 8]], dtype=np.float16)), normalize=False)
    assert store["v"].dtype == np.float32
    assert store["v"].tolist() == [[3, 4], [6, 8]]


def test_files_are_normalized_one_by_one_then_joined_and_cut_to_the_shortest(write_hdf5: WriteHDF5) -> None:
    first = write_hdf5("a.hdf5", v=[[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]])
    second = write_hdf5("b.hdf5", v=[[5.0], [-7.0]])
    store = HDF5FeatureStore([first, second], dims=[2, 1])
    np.testing.assert_allclose(store["v"], [[0.6, 0.8, 1], [0, 1, -1]], rtol=1e-6)


def test_a_video_is_there_only_if_all_files_have_it(write_hdf5: WriteHDF5) -> None:
    store = HDF5FeatureStore([write_hdf5("a.hdf5", v=[[1.0]], w=[[1.0]]), write_hdf5("b.hdf5", v=[[1.0]])])
    assert "v" in store
    assert "w" not in store
    with pytest.raises(MissingFeaturesError, match=r"b\.hdf5 has no features of video w \(it holds 1 videos\)"):
        store["w"]
    assert str(store).endswith("b.hdf5 (1 videos)")


def test_missing_video_prints_plainly(write_hdf5: WriteHDF5) -> None:
    store = HDF5FeatureStore(write_hdf5(v=[[1.0]], w=[[1.0]]))
    with pytest.raises(KeyError) as error:
        store["AO8RW"]
    assert str(error.value).endswith("features.hdf5 has no features of video AO8RW (it holds 2 videos)")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"feature file not found: .*vgg\.hdf5"):
        HDF5FeatureStore(str(tmp_path / "vgg.hdf5"))["v"]


def test_truncated_file(write_hdf5: WriteHDF5) -> None:
    path = Path(write_hdf5("vgg.hdf5", v=np.ones((50, 8))))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(OSError, match=r"vgg\.hdf5 is truncated or is not an HDF5 file"):
        HDF5FeatureStore(path)["v"]


def test_wrong_width(write_hdf5: WriteHDF5) -> None:
    store = HDF5FeatureStore(write_hdf5("vgg.hdf5", v=np.ones((5, 8))), dims=[4096])
    with pytest.raises(ValueError, match=r"vgg\.hdf5, video v: the features have 8 channels, expected 4096"):
        store["v"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_names_file_video_and_clip(write_hdf5: WriteHDF5, bad: float) -> None:
    features = np.ones((5, 8))
    features[2, 3] = bad
    store = HDF5FeatureStore(write_hdf5("vgg.hdf5", v=features))
    with pytest.raises(ValueError, match=rf"vgg\.hdf5, video v: {bad} in clip 2, channel 3 \(1 of 5 clips"):
        store["v"]


def test_wrong_rank_and_empty(write_hdf5: WriteHDF5) -> None:
    store = HDF5FeatureStore(write_hdf5("vgg.hdf5", v=np.ones((1, 5, 8)), w=np.ones((0, 8))))
    with pytest.raises(ValueError, match=r"vgg\.hdf5, video v: expected shape \(clips, channels\), got \(1, 5, 8\)"):
        store["v"]
    with pytest.raises(ValueError, match=r"vgg\.hdf5, video w: the features are empty"):
        store["w"]


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="files is empty"):
        HDF5FeatureStore([])
    with pytest.raises(ValueError, match="dims has 1 entries for 2 files"):
        HDF5FeatureStore(["a", "b"], dims=[3])


class _Videos:
    """A map-style data set on a store; at module level, so that workers can unpickle it."""

    def __init__(self, store: HDF5FeatureStore, vids: list[str]) -> None:
        self.store, self.vids = store, vids

    def __len__(self) -> int:
        return len(self.vids)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.store[self.vids[index]]


@pytest.mark.parametrize("context", ["fork", None])
def test_loader_workers_after_a_read_in_the_parent(write_hdf5: WriteHDF5, context: str | None) -> None:
    arrays = {f"v{i}": np.full((300, 16), i + 1.0) for i in range(20)}
    store = HDF5FeatureStore(write_hdf5(**arrays), normalize=False)
    assert store["v0"][0, 0] == 1
    workers = {"num_workers": 2, "multiprocessing_context": context} if context else {"num_workers": 0}
    loader = DataLoader(_Videos(store, list(arrays)), batch_size=None, **workers)
    assert [video[-1, -1].item() for video in loader] == list(range(1, 21))
    assert store["v1"][0, 0] == 2


def test_pickling_drops_the_handle(write_hdf5: WriteHDF5) -> None:
    store = HDF5FeatureStore(write_hdf5(v=[[2.0]]), normalize=False)
    assert store["v"] == 2
    assert pickle.loads(pickle.dumps(store))["v"] == 2
