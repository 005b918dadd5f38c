# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mesm_plugin.datasets.feature_packing import find_entries

WriteFolder = Callable[..., Path]


def test_ids_are_names_without_the_last_ending(write_folder: WriteFolder) -> None:
    folder = write_folder(ids=["s10-d21", "source_60.0_210.0", "two words", "ümlaut"])
    (folder / ".hidden.npz").touch()
    (folder / "readme.txt").touch()
    found = find_entries([folder])
    assert [entry.id for entry in found.entries] == ["s10-d21", "source_60.0_210.0", "two words", "ümlaut"]
    assert [len(entry.read()) for entry in found.entries] == [1, 2, 3, 4]
    assert found.notes == []


def test_numbers_behind_qid(write_folder: WriteFolder) -> None:
    found = find_entries([write_folder(ids=["qid10", "qid9"], key="last_hidden_state")])
    assert [entry.id for entry in found.entries] == ["10", "9"]
    assert found.notes == ["ids are the numbers behind 'qid': qid10 is query 10"]
    assert found.of_queries
    assert [entry.id for entry in find_entries([write_folder("mixed", ids=["qid1", "qidx"])]).entries] == [
        "qid1",
        "qidx",
    ]


def test_prefix(write_folder: WriteFolder) -> None:
    folder = write_folder(ids=["v_a", "v_b"])
    assert [entry.id for entry in find_entries([folder], prefix="v_").entries] == ["a", "b"]
    with pytest.raises(ValueError, match=r"a\.npz: the id 'v_a' does not begin with --id-prefix 'w_'"):
        find_entries([folder], prefix="w_")


def test_ending_of_a_video(write_folder: WriteFolder) -> None:
    folder = write_folder(ids=["s1", "s2.avi", "v_60.0_210.0", "x.mp4", "y"])
    videos = ["s1.avi", "s2.avi", "v_60.0_210.0", "x", "y.avi", "y.mp4", "z.avi"]
    found = find_entries([folder], videos=videos)
    assert [entry.id for entry in found.entries] == ["s1.avi", "s2.avi", "v_60.0_210.0", "x", "y"]
    assert found.notes == ["2 ids are annotated ones but for the ending of a video: s1 is s1.avi"]
    assert not found.of_queries
    with pytest.raises(ValueError, match=r"s1\.avi is in both .*/s1\.npz and .*/s1\.mp4\.npz"):
        find_entries([folder, write_folder("more", ids=["s1.mp4"])], videos=videos)
    assert len(find_entries([folder, write_folder("again", ids=["s1.avi"])], videos=videos).entries) == 6


def test_every_kind_of_file(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "n.npy", values)
    torch.save(torch.from_numpy(values), tmp_path / "t.pt")
    torch.save({"features": torch.from_numpy(values), "fps": torch.tensor(1)}, tmp_path / "d.PTH")
    np.savez(tmp_path / "z.npz", last_hidden_state=values, pooler_output=values[0])
    with h5py.File(tmp_path / "h.h5", "w") as file:
        file["h"] = values
        file["g/last_hidden_state"] = values
        file["g/other"] = values[:1]
    files = [tmp_path / name for name in ("n.npy", "t.pt", "d.PTH", "z.npz", "h.h5")]
    found = find_entries(files)
    assert [entry.id for entry in found.entries] == ["n", "t", "d", "z", "g", "h"]
    for entry in found.entries:
        assert np.array_equal(entry.read(), values), entry.place
    with pytest.raises(
        ValueError, match=r"holds 1 \.npy .* files; say which ones are meant with --ending|has .* files"
    ):
        find_entries([tmp_path])
    assert [entry.id for entry in find_entries([tmp_path], ending="npy").entries] == ["n"]


def test_key_chooses(tmp_path: Path) -> None:
    np.savez(tmp_path / "z.npz", last_hidden_state=np.ones((3, 2)), pooler_output=np.ones(2))
    with h5py.File(tmp_path / "h.hdf5", "w") as file:
        file["g/one"], file["g/two"] = np.ones((4, 2)), np.ones((5, 2))
    z, g = find_entries([tmp_path / "z.npz", tmp_path / "h.hdf5"], key="pooler_output").entries
    assert z.read().shape == (2,)
    with pytest.raises(ValueError, match=r"h\.hdf5, data set g is a group of one, two; choose one with --key"):
        g.read()
    assert find_entries([tmp_path / "h.hdf5"], key="two").entries[0].read().shape == (5, 2)
    with pytest.raises(
        ValueError, match=r"z\.npz has no key 'two'; it holds the arrays last_hidden_state, pooler_output"
    ):
        find_entries([tmp_path / "z.npz"], key="two").entries[0].read()


def test_shards_of_hdf5(tmp_path: Path) -> None:
    for number in range(3):
        with h5py.File(tmp_path / f"part{number}.hdf5", "w") as file:
            file[f"v{number}"] = np.full((2, 2), number)
            file[f"v{number}"].attrs["token_ids"] = [number, 7]
    entries = find_entries([tmp_path]).entries
    assert [entry.id for entry in entries] == ["v0", "v1", "v2"]
    assert entries[2].read().tolist() == [[2, 2], [2, 2]]
    ids = entries[1].token_ids()
    assert ids is not None
    assert ids.tolist() == [1, 7]


def test_duplicate_ids_name_both_files(write_folder: WriteFolder) -> None:
    one, other = write_folder("one"), write_folder("other", ids=["x", "b", "c"])
    with pytest.raises(ValueError, match=r"b is in both .*one/b\.npz and .*other/b\.npz; .*; 2 ids occur again"):
        find_entries([one, other])


def test_sub_folders(write_folder: WriteFolder, tmp_path: Path) -> None:
    write_folder("x")
    (tmp_path / "y").mkdir()
    np.save(tmp_path / "y" / "e.npy", np.ones((1, 6)))
    with pytest.raises(ValueError, match=r"has feature files in sub-folders \(x, y\); name one of them"):
        find_entries([tmp_path])
    found = find_entries([tmp_path], recursive=True, ending=".npz")
    assert [entry.id for entry in found.entries] == ["a", "b", "c", "d"]


def test_nothing_to_pack(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file or folder .*gone"):
        find_entries([tmp_path / "gone"])
    (tmp_path / "a.csv").touch()
    with pytest.raises(ValueError, match=r"has no feature files \(.*\); it holds 1 with \.csv"):
        find_entries([tmp_path])
    with pytest.raises(ValueError, match=r"a\.csv is no file of features"):
        find_entries([tmp_path / "a.csv"])
    with pytest.raises(ValueError, match=r"--ending is \.mat, expected one of"):
        find_entries([tmp_path], ending="mat")


def test_hdf5_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "a.hdf5").write_text("no HDF5")
    h5py.File(tmp_path / "b.hdf5", "w").close()
    found = find_entries([tmp_path])
    assert found.entries == []
    assert "a.hdf5 is truncated or is not an HDF5 file" in found.unreadable[tmp_path / "a.hdf5"]
    assert "b.hdf5 holds no data sets" in found.unreadable[tmp_path / "b.hdf5"]


def test_output_is_no_source(write_folder: WriteFolder, tmp_path: Path) -> None:
    folder = write_folder()
    output = folder / "all.hdf5"
    h5py.File(output, "w").close()
    assert len(find_entries([folder], output=output).entries) == 4
    with pytest.raises(ValueError, match=r"--out .*all\.hdf5 is a source, too"):
        find_entries([output], output=output)
