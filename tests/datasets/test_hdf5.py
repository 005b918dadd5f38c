# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from mesm_plugin.datasets.hdf5 import HDF5File

ROOT = Path(__file__).parents[2]


def test_reads_data_sets_and_attributes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["v"] = np.arange(6).reshape(3, 2)
        file["v"].attrs["token_ids"] = [4, 5]
        file["w"] = 1.0
        file["empty"] = h5py.Empty("f4")
    file = HDF5File(tmp_path / "a.hdf5", "feature file")
    assert len(file) == 3
    assert "v" in file
    assert "x" not in file
    assert file.read("v").tolist() == [[0, 1], [2, 3], [4, 5]]
    assert file.attribute("v", "token_ids").tolist() == [4, 5]
    assert file.attribute("w", "token_ids") is None
    # Whatever is no array of numbers can be told by its dtype.
    assert file.read("w").dtype == np.float64
    assert file.read("empty").dtype == object


def test_missing_file(tmp_path: Path) -> None:
    file = HDF5File(tmp_path / "gone.hdf5", "feature file")
    with pytest.raises(FileNotFoundError, match=r"feature file not found: .*gone\.hdf5"):
        file.read("v")


def test_truncated_file(write_hdf5: Callable[..., str]) -> None:
    path = Path(write_hdf5("cut.hdf5", v=np.zeros((100, 10))))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(OSError, match=r"cut\.hdf5 is truncated or is not an HDF5 file \(.*truncated file"):
        HDF5File(path, "feature file").read("v")


@pytest.mark.parametrize("content", ["", "not HDF5 at all"])
def test_not_hdf5(write_text: Callable[[str, str], str], content: str) -> None:
    with pytest.raises(OSError, match=r"text\.hdf5 is truncated or is not an HDF5 file"):
        HDF5File(write_text("text.hdf5", content), "feature file").read("v")


def test_damaged_data(tmp_path: Path) -> None:
    path = tmp_path / "bad.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("v", data=np.arange(2000.0).reshape(1000, 2), chunks=(1000, 2), compression="gzip")
        chunk = file["v"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    middle = chunk.byte_offset + chunk.size // 2
    content[middle : middle + 50] = bytes(50)
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"bad\.hdf5: v cannot be read, the file is damaged"):
        HDF5File(path, "feature file").read("v")


def test_group_instead_of_data_set(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["v/features"] = [1.0]
    with pytest.raises(ValueError, match=r"a\.hdf5: v is a group, expected a data set"):
        HDF5File(tmp_path / "a.hdf5", "feature file").read("v")


def test_pickled_copy_reads_for_itself(write_hdf5: Callable[..., str]) -> None:
    file = HDF5File(write_hdf5(v=[1.0, 2.0]), "feature file")
    assert file.read("v").tolist() == [1, 2]
    copy = pickle.loads(pickle.dumps(file))
    assert copy._handle is None
    assert copy.read("v").tolist() == [1, 2]


def open_handles(path: Path) -> int:
    """How many descriptors of this process are of the file."""
    return sum(os.path.realpath(link) == str(path) for link in Path("/proc/self/fd").iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counting open files needs /proc")
def test_no_handle_is_shared_across_a_fork(write_hdf5: Callable[..., str]) -> None:
    path = write_hdf5(v=np.arange(1000.0))
    files = [HDF5File(path, "feature file") for _ in range(2)]
    assert [file.read("v")[-1] for file in files] == [999, 999]
    assert open_handles(Path(path)) == 1  # HDF5 has one descriptor for both

    def child(results: multiprocessing.SimpleQueue) -> None:
        inherited = open_handles(Path(path))
        results.put((inherited, files[1].read("v")[-1].item(), open_handles(Path(path))))

    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    processes = [context.Process(target=child, args=(results,)) for _ in range(2)]
    for process in processes:
        process.start()
    answers = [results.get() for _ in processes]
    for process in processes:
        process.join()
    assert answers == [(0, 999.0, 1)] * 2
    assert files[0].read("v")[-1] == 999


FORKING = """
import os, sys, threading

from mesm_plugin.datasets.hdf5 import HDF5File

assert "h5py" not in sys.modules  # its own handler of forks has to be registered before ours
file = HDF5File(sys.argv[1], "feature file")
values, stop = [], threading.Event()

def read():
    # A lock is not fair: without a pause the thread that forks might never get it.
    while not stop.wait(0.0005):
        values.extend(file.read(f"v{i}")[0] - i for i in range(50))

reader = threading.Thread(target=read)
reader.start()
for _ in range(50):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if file.read("v7")[0] == 7 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
stop.set()
reader.join()
assert len(values) >= 50 and not any(values)
"""


def test_fork_waits_for_the_reads_of_other_threads(write_hdf5: Callable[..., str]) -> None:
    path = write_hdf5(**{f"v{i}": np.full(100, i) for i in range(50)})
    run = subprocess.run([sys.executable, "-c", FORKING, path], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert run.returncode == 0, run.stderr


def test_closed_file_opens_again(write_hdf5: Callable[..., str]) -> None:
    file = HDF5File(write_hdf5(v=[1.0], w=[2.0]), "feature file")
    assert list(file) == ["v", "w"]
    file.close()
    file.close()
    assert file.read("w") == 2


def test_broken_link(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["v"] = h5py.SoftLink("/gone")
    with pytest.raises(OSError, match=r"a\.hdf5: v cannot be read"):
        HDF5File(tmp_path / "a.hdf5", "feature file").read("v")


def test_bytes_changed_anywhere(tmp_path: Path) -> None:
    """A damaged file is read, or is an error that names it, whatever h5py raises."""
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        file["v"] = np.ones((5, 4))
        file["g/x"] = np.ones((5, 4))
    whole = path.read_bytes()
    refused = []
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :])
        damaged = HDF5File(path, "feature file")
        try:
            assert [name for name in damaged if damaged.group(name) is None and damaged.read(name) is None] == []
        except OSError as error:
            refused.append(str(error))
        damaged.close()
    assert len(refused) > 10
    assert all("a.hdf5" in message for message in refused)


def test_texts_and_what_was_never_written_are_not_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file.create_dataset("text", data=["a"], dtype=h5py.string_dtype())
        file.create_dataset("ragged", shape=(2,), dtype=h5py.vlen_dtype(np.float32))
        file.create_dataset("huge", shape=(10**6, 10**6), dtype="f4", chunks=(1, 1000))
    file = HDF5File(tmp_path / "x.hdf5", "feature file")
    for key in ("text", "ragged"):
        with pytest.raises(ValueError, match=rf"x\.hdf5: {key}: expected real numbers, got dtype object"):
            file.read(key)
    with pytest.raises(ValueError, match=r"x\.hdf5: huge is declared, shape \(1000000, .*, but was never written"):
        file.read("huge")
