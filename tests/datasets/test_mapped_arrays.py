# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import h5py
import numpy as np
import pytest
from torch.utils.data import DataLoader

from mesm_plugin.datasets import HDF5FeatureStore, mapped_arrays
from mesm_plugin.datasets.feature_packing import find_entries, pack_features
from mesm_plugin.datasets.hdf5 import HDF5File
from mesm_plugin.datasets.mapped_arrays import MappedArrays

Pack = Callable[..., tuple[Path, dict[str, np.ndarray]]]


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Packs arrays and returns the file and the arrays."""

    def run(arrays: dict[str, np.ndarray], **options: object) -> tuple[Path, dict[str, np.ndarray]]:
        folder = tmp_path / "single"
        folder.mkdir()
        for id_, array in arrays.items():
            np.save(folder / f"{id_}.npy", array)
        pack_features(find_entries([folder]).entries, tmp_path / "packed.hdf5", **options)
        return tmp_path / "packed.hdf5", arrays

    return run


def _random(*lengths: int, channels: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {f"v{length}": rng.standard_normal((length, channels), dtype=np.float32) for length in lengths}


def _mapped(path: Path) -> MappedArrays:
    with h5py.File(path) as file:
        mapped = MappedArrays.of(path, file)
    assert mapped is not None
    return mapped


@pytest.mark.parametrize("dtype", [None, "float16"])
def test_reads_what_was_packed(pack: Pack, dtype: str | None) -> None:
    path, arrays = pack(_random(3, 1, 700), dtype=dtype)
    mapped = _mapped(path)
    assert len(mapped) == 3
    for id_, array in arrays.items():
        assert id_ in mapped
        assert mapped.shape(id_) == array.shape
        read = mapped.read(id_)
        assert read.dtype == (dtype or "float32")
        np.testing.assert_array_equal(read, array.astype(read.dtype))
        assert mapped.token_ids(id_) is None
        read[:] = 0
        assert mapped.read(id_).any()
    for absent in ("v", "v2", "v70", "v7000", "v3\0", "", "w1"):
        assert absent not in mapped
    with pytest.raises(KeyError):
        mapped.read("v2")


def test_token_ids(pack: Pack) -> None:
    path, _ = pack(_random(3, 1), row="word", token_ids={"v3": [49406, 7, 49407], "v1": [5]})
    mapped = _mapped(path)
    ids = {id_: mapped.token_ids(id_) for id_ in ("v3", "v1")}
    assert {id_: None if row is None else row.tolist() for id_, row in ids.items()} == {
        "v3": [49406, 7, 49407],
        "v1": [5],
    }


def _overwrite(path: Path, id_: str, value: float) -> None:
    """Changes numbers in place, and nothing else of the file."""
    with h5py.File(path) as file:
        offset, size = file[id_].id.get_offset(), file[id_].size
    with open(path, "r+b") as raw:
        raw.seek(offset)
        raw.write(np.full(size, value, dtype=np.float32).tobytes())


def test_the_start_reads_no_features_and_each_item_is_checked(pack: Pack) -> None:
    path, _ = pack(_random(3, 4))
    _overwrite(path, "v4", np.nan)
    store = HDF5FeatureStore(path)
    assert store.find_problems(["v3", "v4", "v5"]) == {"v5": f"{path} has no features of video v5 (it holds 2 videos)"}
    assert store.num_clips(["v3", "v4"]) == {"v3": 3, "v4": 4}
    assert len(store["v3"]) == 3
    with pytest.raises(ValueError, match=r"packed\.hdf5, video v4: nan in clip 0, channel 0 \(4 of 4 clips"):
        store["v4"]


def test_a_wrong_width_is_found_at_the_start(pack: Pack) -> None:
    path, _ = pack(_random(3))
    (problem,) = HDF5FeatureStore(path, dims=[7]).find_problems(["v3"]).values()
    assert problem == f"{path}, video v3: the features have 6 channels, expected 7"


def test_files_that_are_not_as_they_were_packed_are_read_at_the_start(pack: Pack) -> None:
    path, _ = pack(_random(3, 4))
    _overwrite(path, "v4", np.nan)
    with h5py.File(path, "a") as file:
        file["more"] = np.ones((2, 6), np.float32)
    store = HDF5FeatureStore(path)
    assert HDF5File(path, "feature file").checked_shape("v3") is None
    assert store.find_problems(["v3", "v4", "more"]).keys() == {"v4"}


def test_the_table_is_read_from_the_end_of_the_file(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    path, arrays = pack(_random(3, 4))
    looked = Mock(wraps=mapped_arrays.table_of)
    monkeypatch.setattr(mapped_arrays, "table_of", looked)
    file = HDF5File(path, "feature file")
    assert file.checked_shape("v4") == (4, 6)
    np.testing.assert_array_equal(file.read("v4"), arrays["v4"])
    assert not looked.called
    # A byte of the names in the table, which has a checksum.
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"v3")] + b"v9" + content[content.rindex(b"v3") + 2 :])
    file = HDF5File(path, "feature file")
    assert file.checked_shape("v9") is None
    assert file.checked_shape("v3") == (3, 6)
    np.testing.assert_array_equal(file.read("v3"), arrays["v3"])
    assert looked.call_count == 1


def test_a_changed_file_has_no_old_table(pack: Pack) -> None:
    path, arrays = pack(_random(3, 4))
    with h5py.File(path, "r+") as file:
        del file["v3"]
        file["w3"] = arrays["v3"] + 1
    with h5py.File(path) as file:
        assert MappedArrays.listed(path, file) is None
    mapped = _mapped(path)
    assert "v3" not in mapped
    assert mapped.read("w3").tolist() == (arrays["v3"] + 1).tolist()
    assert mapped.read("v4").tolist() == arrays["v4"].tolist()


def _swap(file: h5py.File) -> None:
    for name, other in (("v3", "v0"), ("v4", "v3"), ("v0", "v4")):
        file.move(name, other)


def _halve(file: h5py.File) -> None:
    numbers = file["v3"][:]
    del file["v3"]
    file["v3"] = numbers.astype(np.float16)


def _rename(file: h5py.File) -> None:
    file.move("v3", "w3")


def _number(file: h5py.File) -> None:
    file["v3"].attrs["token_ids"] = [1, 2, 3]


@pytest.mark.parametrize("edit", [_swap, _halve, _rename, _number])
def test_a_table_that_was_put_back_behind_an_edited_file(pack: Pack, edit: Callable[[h5py.File], None]) -> None:
    path, _ = pack(_random(3, 4))
    content = path.read_bytes()
    with h5py.File(path, "r+") as file:
        edit(file)
    with open(path, "ab") as raw:
        raw.write(content[content.index(b"PK\3\4") :])
    packed = HDF5File(path, "feature file")
    packed.require()
    with h5py.File(path) as file:
        assert MappedArrays.listed(path, file) is None
        for id_ in file:
            assert packed.checked_shape(id_) == file[id_].shape
            np.testing.assert_array_equal(packed.read(id_), file[id_][:])
        assert len(packed) == len(file)
        assert ("v3" in packed) == ("v3" in file)
        assert np.array_equal(packed.attribute("v4", "token_ids"), file["v4"].attrs.get("token_ids"))


def test_the_table_of_another_file_behind_this_one(pack: Pack, tmp_path: Path) -> None:
    path, arrays = pack(_random(3, 4))
    other = tmp_path / "other.hdf5"
    pack_features(find_entries([tmp_path / "single"]).entries, other, dtype="float16")
    path.write_bytes(path.read_bytes() + other.read_bytes())
    with h5py.File(path) as file:
        assert MappedArrays.listed(path, file) is None
    np.testing.assert_array_equal(HDF5File(path, "feature file").read("v4"), arrays["v4"])


@pytest.mark.parametrize(
    "add",
    [
        lambda file: file.create_dataset("w", data=np.ones((2, 2)), chunks=(1, 2)),
        lambda file: file.create_dataset("w", shape=(2, 2), dtype="f4"),
        lambda file: file.create_dataset("w", data=[[b"a", b"b"]]),
        lambda file: file.create_dataset("w", data=np.ones(3)),
        lambda file: file.create_group("w"),
        lambda file: file["v"].attrs.create("token_ids", [1.5, 2.5]),
        lambda file: file["v"].attrs.create("token_ids", [1, 2, 3]),
        lambda file: file.attrs.__delitem__("fingerprint"),
    ],
)
def test_anything_else_is_left_to_hdf5(tmp_path: Path, add: Callable[[h5py.File], object]) -> None:
    path = tmp_path / "other.hdf5"
    with h5py.File(path, "w") as file:
        file["v"] = np.ones((2, 2))
        file.attrs["fingerprint"] = "x"
        add(file)
        file.attrs["count"] = len(file)
    with h5py.File(path) as file:
        assert MappedArrays.of(path, file) is None
        assert MappedArrays.listed(path, file) is None


def test_a_file_cut_off_while_it_is_read(pack: Pack) -> None:
    path, _ = pack(_random(3, 4000))
    mapped = _mapped(path)
    mapped.read("v4000")
    with open(path, "r+b") as raw:
        raw.truncate(5000)
    with pytest.raises(OSError, match=r"packed\.hdf5 was cut off while it was being read"):
        mapped.read("v4000")


def test_a_copy_in_another_process_reads_the_same_file_only(pack: Pack) -> None:
    path, arrays = pack(_random(3))
    mapped = _mapped(path)
    mapped.read("v3")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(mapped)).read("v3"), arrays["v3"])
    shutil.copy(path, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)
    np.testing.assert_array_equal(mapped.read("v3"), arrays["v3"])
    with pytest.raises(OSError, match=r"packed\.hdf5 has changed since it was opened"):
        pickle.loads(pickle.dumps(mapped)).read("v3")


@pytest.mark.parametrize(("context", "workers"), [("fork", 2), ("spawn", 1)])
def test_workers(pack: Pack, context: str, workers: int) -> None:
    path, arrays = pack(_random(*range(1, 7)))
    store = HDF5FeatureStore(path, normalize=False)
    assert store.find_problems(list(arrays)) == {}
    store["v1"]
    items = _Items(store, list(arrays))
    loader = DataLoader(items, batch_size=None, num_workers=workers, multiprocessing_context=context)
    for read, array in zip(loader, arrays.values(), strict=True):
        np.testing.assert_array_equal(read, array)


class _Items:
    def __init__(self, store: HDF5FeatureStore, vids: list[str]) -> None:
        self.store = store
        self.vids = vids

    def __len__(self) -> int:
        return len(self.vids)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.store[self.vids[index]]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux")
def test_what_was_read_does_not_stay_resident(pack: Pack) -> None:
    path, arrays = pack({f"v{i}": np.full((1000, 1000), i, np.float32) for i in range(8)})
    mapped = _mapped(path)
    for id_ in arrays:
        mapped.read(id_)
    sizes = []
    lines = Path("/proc/self/smaps").read_text().splitlines()
    for number, line in enumerate(lines):
        if line.endswith(str(path)):
            sizes += [int(row.split()[1]) for row in lines[number : number + 8] if row.startswith("Rss:")]
    assert len(sizes) == 1
    assert path.stat().st_size > 30e6
    assert sizes[0] < 4096
