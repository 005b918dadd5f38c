# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What Slurm tells its tasks reaches PyTorch, and processes that start alone are told."""

import os
import stat
from pathlib import Path

import pytest
from mmengine.config import Config

from mesm_plugin.engine import launcher
from mesm_plugin.engine.config_loading import ConfigError


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of three tasks on two nodes."""
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\ntest "$1 $2 $3" = "show hostnames node[7-8]" && echo node7 && echo node8\n')
    scontrol.chmod(scontrol.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        # So that what is set is taken away afterwards.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in (("PROCID", "1"), ("NTASKS", "3"), ("LOCALID", "0"), ("NODELIST", "node[7-8]")):
        monkeypatch.setenv(f"SLURM_{name}", value)


@pytest.mark.usefixtures("task")
def test_tasks_are_named() -> None:
    launcher._name_processes_of_slurm()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    assert [os.environ[name] for name in names] == ["1", "3", "0", "node7", "29500"]


@pytest.mark.usefixtures("task")
def test_a_given_meeting_place_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "4321")
    launcher._name_processes_of_slurm()
    assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("10.0.0.1", "4321")


@pytest.mark.usefixtures("task")
def test_outside_of_slurm_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_NTASKS")
    with pytest.raises(ConfigError, match="--launcher slurm, but SLURM_NTASKS is not set; start the command with srun"):
        launcher._name_processes_of_slurm()


@pytest.mark.usefixtures("task")
def test_without_scontrol_the_variable_to_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NODELIST", "elsewhere")
    with pytest.raises(
        ConfigError, match="'scontrol show hostnames elsewhere' did not name the nodes; set MASTER_ADDR"
    ):
        launcher._name_processes_of_slurm()


def test_data_parallel_is_told_of_its_buckets() -> None:
    wrapper = launcher._data_parallel(Config({"find_unused_parameters": False}))
    assert wrapper["gradient_as_bucket_view"]
    assert wrapper["bucket_cap_mb"] == 2


def test_a_process_that_is_alone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "TO_JOIN", 1)
    meeting = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in meeting.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    with pytest.raises(ConnectionError, match=r"process 1 of 2 did not meet the others at 127.0.0.1:1 within 1 s"):
        launcher._join_processes_on_cpu()
