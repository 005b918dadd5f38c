# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Which errors are bad input."""

import numpy as np
import pytest
from torch._utils import ExceptionWrapper

import mesm_plugin
from mesm_plugin.cli.errors import readable
from mesm_plugin.datasets import MissingFeaturesError
from mesm_plugin.datasets.arrays import checked_sequence


def raise_input():
    checked_sequence(np.array([[np.nan]]), "features.hdf5, video a", "clip")


def raise_missing():
    # Stands for a module of the package, which is where such errors are raised.
    code = compile("raise MissingFeaturesError('features.hdf5 has no video b')", mesm_plugin.__file__, "exec")
    exec(code, {"MissingFeaturesError": MissingFeaturesError})


def raise_bug():
    raise ValueError("something is broken here")


def message_of(function):
    try:
        function()
    except Exception as error:
        return readable(error)
    pytest.fail("nothing was raised")


def in_worker(function):
    """Raises as a data loader does for what `function` raised in a worker."""
    try:
        function()
    except Exception:
        ExceptionWrapper(where="in DataLoader worker process 0").reraise()


@pytest.mark.parametrize("in_process", [lambda function: function(), in_worker])
def test_bad_input_is_told_and_a_bug_is_not(in_process):
    message = message_of(lambda: in_process(raise_input))
    assert message.startswith("features.hdf5, video a: nan in clip 0")
    assert "\n" not in message
    assert message_of(lambda: in_process(raise_missing)) == "features.hdf5 has no video b"
    assert message_of(lambda: in_process(raise_bug)) is None


def test_errors_of_the_file_system(tmp_path):
    assert message_of((tmp_path / "a").open) == f"{tmp_path / 'a'}: No such file or directory"
    assert readable(FileNotFoundError("no config x")) == "no config x"


def test_other_errors_are_bugs():
    assert readable(RuntimeError("x")) is None
    assert message_of(lambda: {}["x"]) is None
    assert readable(MissingFeaturesError("raised nowhere")) is None
