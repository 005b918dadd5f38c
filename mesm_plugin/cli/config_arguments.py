# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Arguments of all commands that read a config."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmengine.config import Config


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds CONFIG and `--cfg-options`."""
    parser.add_argument("config", metavar="CONFIG", help="path of a config, or the name of a shipped one")
    add_config_options(parser)


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--cfg-options`."""
    parser.add_argument(
        "--cfg-options",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="change keys of the config: optim_wrapper.optimizer.lr=1e-4; lists as [a,b]",
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds MMEngine's flags of a run."""
    parser.add_argument("--work-dir", metavar="DIR", help="where to write (default: work_dirs/NAME_OF_CONFIG)")
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm", "mpi"),
        default="none",
        help="what started the processes of a distributed run",
    )
    parser.add_argument(
        "--nproc", metavar="N", type=int, help="start so many processes on this machine (with --launcher pytorch)"
    )
    parser.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        help="stop (as the data sets do by default), or leave out videos and queries that are broken, and count them",
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)


def checked_config(args: argparse.Namespace) -> "Config":
    """The config that `args` name, with its options, checked for misspelt keys."""
    from mesm_plugin.engine.config_checking import check_config
    from mesm_plugin.engine.config_loading import read_config

    config = read_config(args.config, args.cfg_options)
    check_config(config, args.cfg_options)
    return config


def run_config(args: argparse.Namespace) -> "Config":
    """As `checked_config`, with the flags of `add_run_arguments` in it."""
    config = checked_config(args)
    if args.on_error is not None:
        _set_on_error(config, args.on_error)
    if args.work_dir is not None:
        config.work_dir = args.work_dir
    elif config.get("work_dir") is None:
        config.work_dir = os.path.join("work_dirs", Path(config.filename).stem)
    config.launcher = args.launcher
    if args.launcher != "none":
        os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return config


def _set_on_error(config: "Config", on_error: str) -> None:
    from mesm_plugin.engine.config_checking import check_config

    for split in ("train", "val", "test"):
        if config.get(f"{split}_dataloader") is not None:
            config.merge_from_dict({f"{split}_dataloader.dataset.on_error": on_error})
    # A data set of another package may not know the option.
    check_config(config)
