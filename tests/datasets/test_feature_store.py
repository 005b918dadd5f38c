# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mesm_plugin.datasets import (
    FeatureStore,
    HDF5FeatureStore,
    MissingFeaturesError,
    NumpyFeatureStore,
    TorchFeatureStore,
)
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

    def __init__(self, store: FeatureStore, vids: list[str]) -> None:
        self.store, self.vids = store, vids

    def __len__(self) -> int:
        return len(self.vids)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.store[self.vids[index]]


@pytest.mark.parametrize("context", ["fork", "spawn", None])
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


def test_arrays_are_joined_as_the_store_does(write_hdf5: WriteHDF5) -> None:
    first, second = np.arange(12.0).reshape(4, 3) + 1, np.arange(6.0).reshape(3, 2) + 1
    files = [write_hdf5("clip.h5", v=first), write_hdf5("slow.h5", v=second)]
    for normalize in (True, False):
        store = HDF5FeatureStore(files, normalize=normalize, dims=[3, 2])
        assert store["v"].shape == (3, 5)
        assert np.array_equal(store.join([first, second]), store["v"])
        assert np.array_equal(store.join([np.concatenate((first[:3], second), axis=1)]), store["v"])
    with pytest.raises(ValueError, match="got 1 feature arrays, expected 2"):
        store.join([first])
    with pytest.raises(ValueError, match="feature array 1: the features have 3 channels, expected 2"):
        store.join([first, first])
    with pytest.raises(ValueError, match="feature array 0: nan in clip 1"):
        store.join([np.where(first == 5, np.nan, first), second])


@pytest.fixture
def folder_of_tensors(tmp_path: Path) -> Path:
    """Two folders of .pt files, `c3d` and `clip`; `clip` lacks video w."""
    for name in ("c3d", "clip"):
        (tmp_path / name).mkdir()
    torch.save(torch.tensor([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]]), tmp_path / "c3d" / "v.pt")
    torch.save(torch.tensor([[5.0], [-7.0]], dtype=torch.bfloat16), tmp_path / "clip" / "v.pt")
    torch.save(torch.tensor([[1.0, 0.0]]), tmp_path / "c3d" / "w.pt")
    return tmp_path


def test_tensors_of_several_folders_are_joined(folder_of_tensors: Path) -> None:
    folders = [str(folder_of_tensors / "c3d"), str(folder_of_tensors / "clip")]
    store = DATASETS.build({"type": "TorchFeatureStore", "folders": folders, "dims": [2, 1]})
    assert store["v"].dtype == np.float32
    np.testing.assert_allclose(store["v"], [[0.6, 0.8, 1], [0, 1, -1]], rtol=1e-6)
    assert "v" in store
    assert "w" not in store
    assert str(store) == f"{folders[0]} (2 videos) + {folders[1]} (1 videos)"
    with pytest.raises(MissingFeaturesError, match=r"clip has no features of video w \(it holds 1 videos\)"):
        store["w"]


def test_archives_of_a_folder(tmp_path: Path) -> None:
    vid = "source_60.0_210.0"
    np.savez(tmp_path / f"{vid}.npz", features=np.array([[3, 4]], dtype=np.float16))
    store = DATASETS.build({"type": "NumpyFeatureStore", "folders": str(tmp_path)})
    np.testing.assert_allclose(store[vid], [[0.6, 0.8]], rtol=1e-3)
    assert NumpyFeatureStore(tmp_path, normalize=False)[vid].tolist() == [[3, 4]]


def test_plain_arrays_of_a_folder(tmp_path: Path) -> None:
    np.save(tmp_path / "a.b c.npy", np.array([[3.0, 4.0]]))
    np.savez(tmp_path / "w.npz", np.array([[6.0, 8.0]]))
    store = NumpyFeatureStore(tmp_path)
    np.testing.assert_allclose([store["a.b c"][0], store["w"][0]], [[0.6, 0.8]] * 2, rtol=1e-6)
    assert str(store) == f"{tmp_path} (2 videos)"
    np.save(tmp_path / "w.npy", np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"w\.npz and w\.npy both hold w; remove one of them"):
        store["w"]


def test_missing_folder_shows_on_first_use(tmp_path: Path) -> None:
    store = TorchFeatureStore(tmp_path / "c3d")
    with pytest.raises(FileNotFoundError, match=r"c3d does not exist; expected one with a \.pt per video"):
        store["v"]
    with pytest.raises(FileNotFoundError, match="does not exist"):
        _ = "v" in store


class _Anything:
    """No class that a feature file may hold."""


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"features": [1.0]}, r"v\.pt holds a list, expected a tensor \(clips, channels\)"),
        ({"a": torch.ones(2, 3), "b": torch.ones(2, 3)}, r"v\.pt holds the entries a, b; expected one, or one called"),
        (_Anything(), r"v\.pt holds more than tensors, which is not safe to load"),
        # Training allows the arrays that MMEngine's checkpoints hold, for the rest of the process.
        (np.ones((2, 3)), r"v\.pt holds (more than tensors|a ndarray)"),
        (torch.ones(1, 2, 3), r"v\.pt: expected shape \(clips, channels\), got \(1, 2, 3\)"),
        (torch.ones(2, 4), r"v\.pt: the features have 4 channels, expected 3"),
        (torch.ones(0, 3), r"v\.pt: the features are empty"),
        (torch.full((2, 3), torch.nan), r"v\.pt: nan in clip 0, channel 0 \(2 of 2 clips"),
        (torch.ones(2, 3).bool(), r"v\.pt: expected real numbers, got dtype bool"),
    ],
)
def test_file_of_something_else_than_clip_features(tmp_path: Path, content: object, problem: str) -> None:
    torch.save(content, tmp_path / "v.pt")
    with pytest.raises(ValueError, match=problem):
        TorchFeatureStore(tmp_path, dims=[3])["v"]


@pytest.mark.parametrize("store", [TorchFeatureStore, NumpyFeatureStore])
@pytest.mark.parametrize("keep", [0, 5, 400])
def test_truncated_file_in_a_folder(tmp_path: Path, store: type[TorchFeatureStore], keep: int) -> None:
    path = tmp_path / f"v{store.endings[0]}"
    if store is TorchFeatureStore:
        torch.save(torch.ones(50, 8), path)
    else:
        np.savez_compressed(path, np.random.default_rng(0).random((50, 8)))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=rf"v\{store.endings[0]} is truncated or is not a"):
        store(tmp_path)["v"]


def test_archive_with_something_else_than_an_array(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "v.npz", "w") as archive:
        archive.writestr("features", b"no array")
    with pytest.raises(ValueError, match=r"v\.npz is truncated or is not a NumPy file \(features is no array\)"):
        NumpyFeatureStore(tmp_path)["v"]


@pytest.mark.parametrize("tensor", [torch.ones(2, 3).to_sparse(), torch.empty(2, 3, device="meta")])
def test_tensor_that_is_not_dense(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save(tensor, tmp_path / "v.pt")
    with pytest.raises(ValueError, match=r"v\.pt holds a tensor that is sparse, quantised or without numbers"):
        TorchFeatureStore(tmp_path)["v"]


def test_archive_of_several_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", a=np.ones((2, 3)), b=np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"v\.npz holds the arrays a, b; expected one, or one called 'features'"):
        NumpyFeatureStore(tmp_path)["v"]


def test_arguments_of_folders_are_checked() -> None:
    with pytest.raises(ValueError, match=r"folders is empty, expected the path of at least one folder of \.pt files"):
        TorchFeatureStore([])
    with pytest.raises(ValueError, match="dims has 1 entries for 2 folders, expected one per folder"):
        NumpyFeatureStore(["a", "b"], dims=[3])


def test_folders_in_loader_workers(folder_of_tensors: Path) -> None:
    store = TorchFeatureStore(folder_of_tensors / "c3d", normalize=False)
    assert store["v"][0, 1] == 4
    loader = DataLoader(_Videos(store, ["v", "w", "v"]), batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert [len(video) for video in loader] == [3, 1, 3]
    assert pickle.loads(pickle.dumps(store))["w"].tolist() == [[1, 0]]
