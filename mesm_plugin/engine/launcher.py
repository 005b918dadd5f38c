# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What a config's launcher needs: processes that know one another, and a model that is wrapped for them."""

import os
import subprocess
import warnings
from datetime import timedelta
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import is_distributed

from mesm_plugin.engine.config_loading import ConfigError

TO_JOIN = 50
"""Seconds in which processes on CPUs have to meet."""


def prepare_processes(config: Config) -> None:
    """Tells a config with a `launcher` how its model is to be wrapped, and joins processes that MMEngine cannot.

    Raises:
        ConfigError: Slurm does not say which of its tasks this is, or which nodes there are.
        ConnectionError: The processes did not meet.
    """
    launcher = config.get("launcher", "none")
    if launcher == "none":
        return
    # Without a loss, as in some ablations, what only that loss needs gets no gradient.
    config.setdefault("find_unused_parameters", True)
    warnings.filterwarnings("ignore", "find_unused_parameters=True was specified")
    if launcher == "slurm":
        _name_processes_of_slurm()
    if launcher in ("pytorch", "slurm") and not torch.cuda.is_available():
        _join_processes_on_cpu()
    if config.get("runner_type", "Runner") == "Runner":
        config.setdefault("model_wrapper_cfg", _data_parallel(config))


def _join_processes_on_cpu() -> None:
    """Does what MMEngine's launcher does, which fails where there is no GPU."""
    if not is_distributed():
        try:
            store, rank, count = next(torch.distributed.rendezvous("env://", timeout=timedelta(seconds=TO_JOIN)))
        except (torch.distributed.DistError, TimeoutError) as error:
            raise ConnectionError(
                f"process {os.environ.get('RANK')} of {os.environ.get('WORLD_SIZE')} did not meet the others at "
                f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')} within {TO_JOIN} s; start all of "
                "them at the same time"
            ) from error
        torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=count)


def _data_parallel(config: Config) -> dict[str, Any]:
    """MMEngine's wrapper on CPUs and GPUs, with buckets small enough that most are reduced while backward goes on."""
    return {
        "type": "MMDistributedDataParallel",
        "device_ids": [int(os.environ["LOCAL_RANK"])] if torch.cuda.is_available() else None,
        "broadcast_buffers": False,
        "find_unused_parameters": config.find_unused_parameters,
        "gradient_as_bucket_view": True,
        "bucket_cap_mb": 2,
    }


def _name_processes_of_slurm() -> None:
    """Tells PyTorch what Slurm tells its tasks; what is there already stays."""
    missing = [name for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID") if name not in os.environ]
    if missing:
        raise ConfigError(f"--launcher slurm, but {missing[0]} is not set; start the command with srun")
    for name, of_slurm in (("RANK", "PROCID"), ("WORLD_SIZE", "NTASKS"), ("LOCAL_RANK", "LOCALID")):
        os.environ[name] = os.environ[f"SLURM_{of_slurm}"]
    if "MASTER_ADDR" not in os.environ:
        command = ["scontrol", "show", "hostnames", os.environ.get("SLURM_NODELIST", "")]
        try:
            nodes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            os.environ["MASTER_ADDR"] = nodes[0]
        except (OSError, subprocess.CalledProcessError, IndexError) as error:
            raise ConfigError(
                f"--launcher slurm, but {' '.join(command)!r} did not name the nodes; set MASTER_ADDR to the first one"
            ) from error
    os.environ.setdefault("MASTER_PORT", "29500")
