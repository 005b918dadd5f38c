# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm test`."""

import argparse
from pathlib import Path

from mesm_plugin.cli.config_arguments import add_config_arguments, add_run_arguments, run_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to `parser`."""
    add_config_arguments(parser)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="file that training wrote")
    parser.add_argument(
        "--out",
        metavar="FILE.jsonl",
        help="where to write the predictions, one line a query, and FILE_metrics.json beside it (default: "
        "submission.jsonl in the work directory)",
    )
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the scores of a checkpoint on the test split, and writes them and the predictions."""
    from mmengine.dist import is_main_process

    from mesm_plugin.cli.score_table import print_result
    from mesm_plugin.engine.config_loading import ConfigError
    from mesm_plugin.engine.result_file import write_result
    from mesm_plugin.engine.train_and_test import test

    config = run_config(args)
    submission = Path(args.out or Path(config.work_dir) / "submission.jsonl")
    evaluator = config.get("test_evaluator")
    metrics = evaluator if isinstance(evaluator, list) else [evaluator]
    metric = next((node for node in metrics if node and node.get("type") == "MomentRetrievalMetric"), None)
    if metric is not None:
        metric["output_file"] = str(submission)
    elif args.out is not None:
        raise ConfigError(f"{config.filename}: --out needs a MomentRetrievalMetric as test_evaluator")
    result = test(config, args.checkpoint)
    print_result(result)
    file = submission.with_name(f"{submission.stem}_metrics.json")
    write_result(result, str(config.filename), file)
    if is_main_process():
        if metric is not None:
            print(f"Submission: {submission}")
        print(f"Metrics: {file}")
    return 0
