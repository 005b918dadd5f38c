# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Times the evaluation of a submission beside a plain re-implementation of the peers' evaluator.

python -m bench.evaluators predictions.jsonl ground_truth.jsonl --repeat 5

Both print the same numbers, or this fails. The time is that of the process (one thread if OMP_NUM_THREADS=1), the files
read beforehand; the best of the runs counts.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mesm_plugin.evaluation import evaluate_highlight_detection, evaluate_moment_retrieval
from tests.evaluation import plain_evaluator

Records = list[dict[str, Any]]


def moment_retrieval(predictions: Records, ground_truth: Records) -> dict[str, Any]:
    """The vectorised scores of moments in the form of the plain ones."""
    thresholds = plain_evaluator.THRESHOLDS
    scores = evaluate_moment_retrieval(predictions, ground_truth, r1_thresholds=thresholds, map_thresholds=thresholds)
    for name in ("brief", "superlong"):
        scores.pop(name, None)
    for values in scores.values():
        del values["MR-R1"]["miou"]
    return scores


EVALUATORS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "moments": (moment_retrieval, plain_evaluator.moment_retrieval),
    "highlights": (evaluate_highlight_detection, plain_evaluator.highlight_detection),
}


def compare(predictions: Records, ground_truth: Records, repeat: int) -> dict[str, tuple[float, float]]:
    """Seconds of both evaluators by task; highlights only where clips are graded.

    Raises:
        AssertionError: Their numbers differ.
    """
    seconds = {}
    for task, pair in EVALUATORS.items():
        if task == "highlights" and "saliency_scores" not in ground_truth[0]:
            continue
        (ours, first), (plain, second) = (_best(function, predictions, ground_truth, repeat) for function in pair)
        assert first == second, f"{task}: {first} is not {second}"
        seconds[task] = (ours, plain)
    return seconds


def _best(evaluate: Callable[..., Any], predictions: Records, ground_truth: Records, repeat: int) -> tuple[float, Any]:
    times = []
    for _ in range(repeat):
        begin = time.process_time()
        result = evaluate(predictions, ground_truth)
        times.append(time.process_time() - begin)
    return min(times), result


def _read(path: Path) -> Records:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("predictions", type=Path, help="a submission")
    parser.add_argument("ground_truth", type=Path, help="annotations in QVHighlights' form")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args(argv)
    predictions, ground_truth = _read(args.predictions), _read(args.ground_truth)
    print(f"{len(ground_truth)} queries\n\n| scores | plain, ms | vectorised, ms | ratio |\n|---|---|---|---|")
    for task, (ours, plain) in compare(predictions, ground_truth, args.repeat).items():
        print(f"| {task} | {1e3 * plain:.0f} | {1e3 * ours:.0f} | {plain / ours:.1f} |")


if __name__ == "__main__":
    main()
