# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm test`."""

import argparse

from mesm_plugin.cli.config_arguments import add_config_arguments, add_run_arguments, run_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to `parser`."""
    add_config_arguments(parser)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="file that training wrote")
    parser.add_argument("--out", metavar="FILE.jsonl", help="write the predictions as a submission, one line a query")
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the scores of a checkpoint on the test split."""
    from mesm_plugin.cli.score_table import print_result
    from mesm_plugin.engine.config_loading import ConfigError
    from mesm_plugin.engine.launch import test

    config = run_config(args)
    if args.out is not None:
        evaluator = config.get("test_evaluator")
        metrics = evaluator if isinstance(evaluator, list) else [evaluator]
        metric = next((node for node in metrics if node and node.get("type") == "MomentRetrievalMetric"), None)
        if metric is None:
            raise ConfigError(f"{config.filename}: --out needs a MomentRetrievalMetric as test_evaluator")
        metric.output_file = args.out
    print_result(test(config, args.checkpoint))
    if args.out is not None:
        print(f"Submission: {args.out}")
    return 0
