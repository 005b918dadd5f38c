# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mesm_plugin.datasets import HDF5FeatureStore, PreExtractedText
from mesm_plugin.datasets.feature_packing import Entry, find_entries, pack_features
from mesm_plugin.datasets.feature_packing.disk_file import DiskFile
from mesm_plugin.datasets.feature_packing.packer import left_out_file, parts_folder

WriteFolder = Callable[..., Path]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "packed.hdf5"


def pack(folder: Path, output: Path, **options: Any) -> Any:
    return pack_features(find_entries([folder], options.get("key")).entries, output, **options)


def stored(folder: Path, id_: str) -> np.ndarray:
    return np.load(folder / f"{id_}.npz")["features"]


class Reads:
    """Notes what is read, and what is written."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.written: list[str] = []

    def __call__(self, entries: Sequence[Entry], what: str) -> Iterator[Entry]:
        for entry in entries:
            {"reading": self.ids, "writing": self.written}[what].append(entry.id)
            yield entry


def test_one_data_set_per_id(write_folder: WriteFolder, output: Path) -> None:
    folder = write_folder()
    packed = pack(folder, output, sources=["clips"])
    assert packed.lengths == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert packed.channels == 6
    assert packed.dtypes == {"float32": 4}
    with h5py.File(output) as file:
        assert file["c"].dtype == np.float32
        assert file["c"].chunks is None
        attributes = dict(file.attrs)
    assert {name: attributes[name] for name in ("count", "channels", "key", "dtype", "left_out")} == {
        "count": 4,
        "channels": 6,
        "key": "",
        "dtype": "as stored",
        "left_out": 0,
    }
    assert attributes["sources"].tolist() == ["clips"]
    store = HDF5FeatureStore(output, normalize=False)
    for id_ in "abcd":
        assert np.array_equal(store[id_], stored(folder, id_))
    assert not parts_folder(output).exists()


def test_second_run_reads_nothing(write_folder: WriteFolder, output: Path) -> None:
    folder, reads = write_folder(), Reads()
    pack(folder, output)
    before = output.stat().st_mtime_ns
    packed = pack(folder, output, track=reads)
    assert packed.up_to_date
    assert packed.lengths == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert reads.ids == []
    assert output.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"packed\.hdf5: the features have 6 channels, expected 7, as --dim says"):
        pack(folder, output, dim=7)


def test_something_else_is_not_replaced(write_folder: WriteFolder, output: Path) -> None:
    folder = write_folder()
    pack(folder, output)
    np.savez(folder / "b.npz", features=np.zeros((9, 6)))
    with pytest.raises(ValueError, match=r"packed\.hdf5 exists and was not made from these sources"):
        pack(folder, output)
    assert pack(folder, output, overwrite=True).lengths["b"] == 9
    output.write_text("notes")
    with pytest.raises(ValueError, match="--overwrite replaces it"):
        pack(folder, output)
    assert output.read_text() == "notes"


def test_output_is_a_file(write_folder: WriteFolder, tmp_path: Path) -> None:
    folder = write_folder()
    os.mkfifo(tmp_path / "pipe")
    for output, kind in ((Path(), "a folder"), (tmp_path, "a folder"), (tmp_path / "pipe", "a device or pipe")):
        with pytest.raises(ValueError, match=rf"--out {output} is {kind}, expected the path of a file"):
            pack(folder, output, overwrite=True)


def damage(folder: Path, id_: str, how: str) -> None:
    file = folder / f"{id_}.npz"
    values: dict[str, Any] = {
        "key": {"x": np.ones((2, 6)), "y": np.ones((2, 6))},
        "pickle": {"features": np.array([[{}]], dtype=object)},
        "text": {"features": np.array([["a"]])},
        "nan": {"features": np.full((2, 6), np.nan)},
        "rank": {"features": np.ones((1, 2, 6))},
        "empty": {"features": np.ones((0, 6))},
    }
    if how == "truncated":
        file.write_bytes(file.read_bytes()[:150])
    elif how == "another format":
        file.write_text("clips\n")
    elif how == "nothing":
        file.write_bytes(b"")
    elif how == "link":
        file.unlink()
        file.symlink_to("nowhere")
    else:
        np.savez(file, **values[how])


PROBLEMS = {
    "truncated": r"b\.npz is truncated or is not a NumPy file",
    "nothing": r"b\.npz is truncated or is not a NumPy file",
    "another format": r"b\.npz is truncated or is not a NumPy file(\n|$)",
    "link": r"not found: .*b\.npz",
    "key": r"b\.npz holds the arrays x, y; expected one",
    "pickle": r"b\.npz holds pickled objects, which are not safe to load",
    "text": r"b\.npz: expected real numbers, got dtype <U1",
    "nan": r"b\.npz: nan in clip 0, channel 0",
    "rank": r"b\.npz: expected shape \(clips, channels\), got \(1, 2, 6\)",
    "empty": r"b\.npz: the features are empty",
}


@pytest.mark.parametrize("how", PROBLEMS)
def test_stops_keeps_what_is_finished_and_goes_on(write_folder: WriteFolder, output: Path, how: str) -> None:
    folder = write_folder()
    good = (folder / "b.npz").read_bytes()
    damage(folder, "b", how)
    with pytest.raises(
        ValueError, match=PROBLEMS[how] + r"(.|\n)*1 of 4 are finished and kept in .*packed\.hdf5\.parts"
    ):
        pack(folder, output)
    assert not output.exists()
    (folder / "b.npz").unlink()
    (folder / "b.npz").write_bytes(good)
    reads = Reads()
    packed = pack(folder, output, track=reads)
    assert reads.ids == ["b", "c", "d"]
    assert packed.kept == 1
    assert packed.lengths == {"a": 1, "b": 2, "c": 3, "d": 4}


@pytest.mark.parametrize("how", PROBLEMS)
def test_skips_and_lists_then_reads_only_what_was_left_out(write_folder: WriteFolder, output: Path, how: str) -> None:
    folder = write_folder()
    good = (folder / "b.npz").read_bytes()
    damage(folder, "b", how)
    packed = pack(folder, output, skip=True)
    assert list(packed.left_out) == ["b"]
    assert packed.lengths == {"a": 1, "c": 3, "d": 4}
    (listed,) = json.loads(left_out_file(output).read_text())
    assert listed["id"] == "b"
    assert listed["file"] == str(folder / "b.npz")
    (folder / "b.npz").unlink()
    (folder / "b.npz").write_bytes(good)
    reads = Reads()
    assert pack(folder, output, track=reads).lengths == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert reads.ids == ["b"]
    assert not left_out_file(output).exists()
    assert not parts_folder(output).exists()


def test_removing_what_was_left_out_completes_the_file(write_folder: WriteFolder, output: Path) -> None:
    folder = write_folder()
    damage(folder, "b", "nan")
    pack(folder, output, skip=True, sources=["one"])
    with pytest.raises(ValueError, match="--overwrite replaces it"):
        pack(folder, output, skip=True, sources=["another"])
    (folder / "b.npz").unlink()
    assert pack(folder, output, sources=["one"]).lengths == {"a": 1, "c": 3, "d": 4}
    assert not left_out_file(output).exists()
    with h5py.File(output) as file:
        assert file.attrs["left_out"] == 0


def test_unreadable_permission(write_folder: WriteFolder, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: Path, load: Any = np.load, **options: Any) -> Any:
        if path.stem == "c":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return load(path, **options)

    monkeypatch.setattr(np, "load", load)
    packed = pack(write_folder(), output, skip=True)
    assert list(packed.left_out) == ["c"]
    assert packed.left_out["c"][1].endswith("c.npz cannot be read: Permission denied")


def test_widths(write_folder: WriteFolder, output: Path) -> None:
    folder = write_folder()
    np.savez(folder / "a.npz", features=np.ones((1, 5)))
    with pytest.raises(
        ValueError, match=r"b\.npz: the features have 6 channels, expected 5, as .*a\.npz has; --dim says"
    ):
        pack(folder, output)
    with pytest.raises(ValueError, match=r"a\.npz: the features have 5 channels, expected 6, as --dim says"):
        pack(folder, output, dim=6)
    packed = pack(folder, output, skip=True)
    assert packed.left_out["a"][1].endswith("a.npz: the features have 5 channels, expected 6, as most files have")
    assert packed.channels == 6
    with pytest.raises(
        ValueError, match="none of 4 files can be packed; the first problem: .*expected 7, as --dim says"
    ):
        pack(folder, output, dim=7, skip=True, overwrite=True)


def test_changed_sources_and_options_are_read_again(write_folder: WriteFolder, output: Path) -> None:
    folder = write_folder()
    damage(folder, "d", "nan")
    with pytest.raises(ValueError, match="3 of 4 are finished"):
        pack(folder, output)
    np.savez(folder / "b.npz", features=np.zeros((7, 6)))
    np.savez(folder / "d.npz", features=np.zeros((2, 6)))
    reads = Reads()
    assert pack(folder, output, track=reads).lengths == {"a": 1, "b": 7, "c": 3, "d": 2}
    assert reads.ids == ["b", "d"]

    damage(folder, "d", "nan")
    with pytest.raises(ValueError, match="3 of 4 are finished"):
        pack(folder, output, overwrite=True)
    np.savez(folder / "d.npz", features=np.zeros((2, 6)))
    reads = Reads()
    packed = pack(folder, output, track=reads, overwrite=True, dtype="float16")
    assert reads.ids == ["a", "b", "c", "d"]
    assert packed.discarded == 3


def test_conversion(write_folder: WriteFolder, output: Path) -> None:
    folder = write_folder()
    packed = pack(folder, output, dtype="float16")
    largest = max(
        float(np.abs(stored(folder, id_) - stored(folder, id_).astype(np.float16).astype(np.float32)).max())
        for id_ in "abcd"
    )
    assert packed.change == pytest.approx(largest)
    assert packed.dtypes == {"float16": 4}
    np.savez(folder / "b.npz", features=np.full((2, 6), 70000.0))
    with pytest.raises(ValueError, match=r"b\.npz: 70000 is beyond float16"):
        pack(folder, output, dtype="float16", overwrite=True)


def test_text(tmp_path: Path, output: Path) -> None:
    (tmp_path / "text").mkdir()
    words = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.savez(tmp_path / "text" / "qid17.npz", last_hidden_state=words, pooler_output=words[1])
    pack(tmp_path / "text", output, row="word")
    assert PreExtractedText(str(output), normalize=False).encode("a door", 17)["words"].tolist() == words.tolist()
    pooled = tmp_path / "pooled.hdf5"
    assert pack(tmp_path / "text", pooled, key="pooler_output", row="word").lengths == {"17": 1}


def test_token_ids_are_kept(tmp_path: Path, output: Path) -> None:
    with h5py.File(tmp_path / "text.hdf5", "w") as file:
        file["1"] = np.ones((3, 4))
        file["1"].attrs["token_ids"] = [49406, 5, 49407]
        file["2"] = np.ones((2, 4))
    pack(tmp_path / "text.hdf5", output)
    with h5py.File(output) as file:
        assert file["1"].attrs["token_ids"].tolist() == [49406, 5, 49407]
        assert "token_ids" not in file["2"].attrs
    with h5py.File(tmp_path / "text.hdf5", "a") as file:
        file["2"].attrs["token_ids"] = [1]
    with pytest.raises(ValueError, match=r"data set 2: the attribute 'token_ids' is int64 of shape \(1,\), expected 2"):
        pack(tmp_path / "text.hdf5", output, overwrite=True)


def test_unreadable_shard(write_folder: WriteFolder, tmp_path: Path, output: Path) -> None:
    (tmp_path / "shard.hdf5").write_text("no HDF5")
    found = find_entries([write_folder(), tmp_path / "shard.hdf5"])
    with pytest.raises(ValueError, match=r"shard\.hdf5 is truncated .*--on-error skip"):
        pack_features(found.entries, output, unreadable=found.unreadable)
    packed = pack_features(found.entries, output, unreadable=found.unreadable, skip=True)
    assert list(packed.left_out) == [str(tmp_path / "shard.hdf5")]
    assert len(packed.lengths) == 4


def test_real_features(shared: Path, output: Path) -> None:
    samples = shared / "data" / "samples"
    files = [samples / "clip_video_features.npz", samples / "clip_text_features.npz"]
    packed = pack_features(find_entries(files).entries, output)
    assert packed.lengths == {"clip_text_features": 12, "clip_video_features": 15}
    assert packed.channels == 512
    assert packed.dtypes == {"float32": 1, "float16": 1}
    store = HDF5FeatureStore(output, normalize=False)
    for file in files:
        assert np.array_equal(store[file.stem], np.load(file)["features"])


KILLED = """
import os, signal, sys
from pathlib import Path
from mesm_plugin.datasets.feature_packing import find_entries, pack_features

def track(entries, what):
    for number, entry in enumerate(entries):
        if what == sys.argv[3] and number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        yield entry

pack_features(find_entries([sys.argv[1]]).entries, Path(sys.argv[2]), track=track)
"""


@pytest.mark.parametrize(("stage", "left"), [("reading", ["d"]), ("writing", [])])
def test_killed_run_is_gone_on_with(write_folder: WriteFolder, output: Path, stage: str, left: list[str]) -> None:
    folder = write_folder()
    killed = subprocess.run([sys.executable, "-c", KILLED, folder, output, stage], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not output.exists()
    reads = Reads()
    packed = pack(folder, output, track=reads)
    assert reads.ids == left
    assert reads.written == ["a", "b", "c", "d"]
    assert packed.kept == 4 - len(left)
    store = HDF5FeatureStore(output, normalize=False)
    for id_ in "abcd":
        assert np.array_equal(store[id_], stored(folder, id_))


def test_killed_before_the_parts_are_removed(
    write_folder: WriteFolder, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        pack(folder, output)
    assert parts_folder(output).exists()
    assert pack(folder, output).up_to_date
    assert not parts_folder(output).exists()


def test_full_disk_while_writing(write_folder: WriteFolder, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: DiskFile, content: Any, write: Any = DiskFile.write) -> int:
        if self._raw.tell() > 2048:
            self._error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return memoryview(content).nbytes
        return write(self, content)

    folder = write_folder(channels=400)
    with monkeypatch.context() as patch:
        patch.setattr(DiskFile, "write", write)
        with pytest.raises(OSError, match="No space left on device; what is finished is kept in") as error:
            pack(folder, output)
    assert error.value.filename == str(output)
    assert not output.exists()
    reads = Reads()
    pack(folder, output, track=reads)
    assert reads.ids == []
    assert np.array_equal(HDF5FeatureStore(output, normalize=False)["d"], stored(folder, "d"))


def test_disk_file_keeps_the_first_error(tmp_path: Path) -> None:
    class Full(io.FileIO):
        def write(self, content: Any) -> int:
            raise OSError(errno.ENOSPC, "full")

    with Full(tmp_path / "x", "w+b") as raw:
        file = DiskFile(raw)
        file.check()
        assert file.write(b"abc") == 3
        with pytest.raises(OSError, match="full"):
            file.check()
