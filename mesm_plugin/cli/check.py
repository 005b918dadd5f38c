# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm check`."""

import argparse
import os
from pathlib import Path

from mesm_plugin.cli.config_arguments import add_config_arguments
from mesm_plugin.cli.json_output import output_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to `parser`."""
    add_config_arguments(parser)
    parser.add_argument(
        "--split",
        choices=("train", "val", "test"),
        nargs="+",
        action="extend",
        help="look at these only",
    )
    parser.add_argument("--work-dir", metavar="DIR", help="where training will write")
    parser.add_argument("--json", metavar="FILE", help="write all problems as JSON; - for standard output")


def run(args: argparse.Namespace) -> int:
    """Prints what is broken among the inputs of a config.

    Returns:
        0, or 1 if something is.
    """
    from mmengine.logging import MMLogger

    from mesm_plugin.checking.inputs import SPLITS, check_inputs
    from mesm_plugin.engine.config_loading import read_config

    # The report says what the data sets log, and standard output may have to be JSON.
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        config = read_config(args.config, args.cfg_options)
        default = config.get("work_dir") or os.path.join("work_dirs", Path(config.filename).stem)
        config.work_dir = args.work_dir or default
        report = check_inputs(config, args.cfg_options, args.split or SPLITS)
    finally:
        logger.setLevel(level)
    if args.json != "-":
        print(report)
    if args.json is not None:
        output_json(report.as_json(), args.json)
    return 1 if report.problems else 0
