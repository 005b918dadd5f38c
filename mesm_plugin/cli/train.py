# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm train`."""

import argparse
from pathlib import Path

from mesm_plugin.cli.config_arguments import add_config_arguments, add_run_arguments, run_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to `parser`."""
    add_config_arguments(parser)
    add_run_arguments(parser)
    parser.add_argument(
        "--resume",
        metavar="CHECKPOINT",
        nargs="?",
        const="",
        help="go on from a checkpoint, or without a name from the last one in the work directory",
    )
    parser.add_argument(
        "--amp",
        metavar="DTYPE",
        nargs="?",
        const="bfloat16",
        choices=("bfloat16", "float16"),
        help="train in mixed precision: bfloat16 (if no type is named), or float16 on a GPU",
    )
    parser.add_argument("--seed", type=int, help="seed of everything random (default: that of the config)")


def run(args: argparse.Namespace) -> int:
    """Trains, prints the scores of the best checkpoint and writes them to `metrics.json` of the work directory."""
    from mesm_plugin.cli.score_table import print_result
    from mesm_plugin.engine.result_file import RESULT, write_result
    from mesm_plugin.engine.train_and_test import train

    config = run_config(args)
    if args.resume is not None:
        config.resume = True
        config.load_from = args.resume or None
    if args.amp is not None:
        config.merge_from_dict({"optim_wrapper.dtype": args.amp})
    if args.seed is not None:
        config.merge_from_dict({"randomness.seed": args.seed})
    result = train(config)
    if result is not None:
        print_result(result)
        write_result(result, str(config.filename), Path(config.work_dir) / RESULT)
    return 0
