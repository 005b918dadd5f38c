# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Resuming under torch's safe loading: what is allowed, and that nothing else is."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mesm_plugin.engine.safe_load import allow_checkpoint_classes


def saved(value, tmp_path):
    path = tmp_path / "value.pth"
    torch.save({"value": value}, path)
    return path


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6.0).reshape(2, 3),
        np.arange(3),
        np.array([True, False]),
        np.float32([1.5]),
        np.float64(0.25),
        np.int64(7),
    ],
)
def test_numpy_values_are_loaded(value, tmp_path):
    allow_checkpoint_classes()
    loaded = torch.load(saved(value, tmp_path), weights_only=True)["value"]
    assert loaded.dtype == value.dtype
    assert np.array_equal(loaded, value)


def test_history_buffer_is_loaded_with_its_statistics(tmp_path):
    allow_checkpoint_classes()
    buffer = HistoryBuffer()
    for value in (1.0, 2.0, 6.0):
        buffer.update(value)
    loaded = torch.load(saved(buffer, tmp_path), weights_only=True)["value"]
    assert [loaded.statistics(name) for name in ("mean", "min", "max", "current")] == [3.0, 1.0, 6.0, 6.0]


class Foreign:
    """A class that is not among those of checkpoints."""


class AsksForAttribute:
    """Pickles as `getattr(HistoryBuffer, "update")`, a method that no checkpoint holds."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, "update")


def test_other_classes_are_refused(tmp_path):
    allow_checkpoint_classes()
    with pytest.raises(pickle.UnpicklingError, match="Foreign"):
        torch.load(saved(Foreign(), tmp_path), weights_only=True)


def test_other_attributes_are_refused(tmp_path):
    allow_checkpoint_classes()
    with pytest.raises(Exception, match="may not refer to the attribute 'update'"):
        torch.load(saved(AsksForAttribute(), tmp_path), weights_only=True)


def test_names_that_numpy_1_writes_are_known(tmp_path):
    allow_checkpoint_classes()
    path = saved(np.arange(2.0), tmp_path)
    allowed = {
        name for entry in torch.serialization.get_safe_globals() if isinstance(entry, tuple) for name in entry[1:]
    }
    assert {"numpy.core.multiarray._reconstruct", "numpy._core.multiarray.scalar"} <= allowed
    assert torch.load(path, weights_only=True)["value"].tolist() == [0.0, 1.0]


def test_importing_the_package_allows_nothing():
    code = (
        "import mmengine, torch; before = set(torch.serialization.get_safe_globals());"
        "import mesm_plugin, mesm_plugin.cli.main; assert set(torch.serialization.get_safe_globals()) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
