# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Checkpoints reach the disk whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from mesm_plugin.engine.checkpoint_backend import CheckpointBackend, CheckpointWriteError


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "epoch_1.pth"
    CheckpointBackend().put(b"old", file)

    def write_half(path, data):
        with open(path, "wb") as stream:
            stream.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", write_half)
    expected = r"epoch_1.pth could not be written \(No space left on device, 1.0 MiB\); free some space; earlier checkp"
    with pytest.raises(CheckpointWriteError, match=expected):
        CheckpointBackend().put(bytes(2**20), file)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"epoch_1.pth": b"old"}


def test_removal_waits(tmp_path):
    backend = CheckpointBackend()
    old, new = tmp_path / "epoch_1.pth", tmp_path / "epoch_2.pth"
    for path in (old, new):
        backend.put(b"weights", path)
        backend.remove(str(path))
    assert old.is_file()
    backend.remove_outdated({new})
    assert not old.exists()
    assert new.is_file()
    backend.remove_outdated(set())
    assert new.is_file()
