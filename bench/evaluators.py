# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Times the evaluation of a submission beside a plain re-implementation of the peers' evaluator.

python -m bench.evaluators predictions.jsonl ground_truth.jsonl --repeat 5

With `--peer FOLDER`, a checkout of QD-DETR or Moment-DETR (which needs scikit-learn), their own evaluator takes its
turn, too, in this process instead of its eight. All print the same numbers, or this fails. The time is that of the
process (one thread if OMP_NUM_THREADS=1), the files read beforehand; the best of the runs counts.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mesm_plugin.evaluation import evaluate_highlight_detection, evaluate_moment_retrieval
from tests.evaluation import plain_evaluator

Records = list[dict[str, Any]]
Evaluator = Callable[[Records, Records], dict[str, Any]]


def moment_retrieval(predictions: Records, ground_truth: Records) -> dict[str, Any]:
    """The vectorised scores of moments in the form of the plain ones."""
    thresholds = plain_evaluator.THRESHOLDS
    scores = evaluate_moment_retrieval(predictions, ground_truth, r1_thresholds=thresholds, map_thresholds=thresholds)
    for name in ("brief", "superlong"):
        scores.pop(name, None)
    for values in scores.values():
        del values["MR-R1"]["miou"]
    return scores


def evaluators(peer: Path | None) -> dict[str, dict[str, Evaluator]]:
    """The functions to time, by task and whose they are; the first is ours."""
    found: dict[str, dict[str, Evaluator]] = {
        "moments": {"vectorised": moment_retrieval, "plain": plain_evaluator.moment_retrieval},
        "highlights": {"vectorised": evaluate_highlight_detection, "plain": plain_evaluator.highlight_detection},
    }
    if peer is not None:
        moments, highlights = peer_evaluators(peer)
        found["moments"]["peer"], found["highlights"]["peer"] = moments, highlights
    return found


def peer_evaluators(checkout: Path) -> tuple[Evaluator, Evaluator]:
    """The functions of `standalone_eval/eval.py`, in one process and in the form of the plain ones."""
    sys.path.insert(0, str(checkout))
    module: Any = import_module("standalone_eval.eval")
    module.mp = SimpleNamespace(Pool=lambda _: nullcontext(SimpleNamespace(imap_unordered=_serial_map)))

    def moments(predictions: Records, ground_truth: Records) -> dict[str, Any]:
        return module.eval_moment_retrieval(predictions, ground_truth, verbose=False)

    def highlights(predictions: Records, ground_truth: Records) -> dict[str, Any]:
        return module.eval_highlight(predictions, ground_truth, verbose=False)

    return moments, highlights


def _serial_map(function: Callable[[Any], Any], items: Iterable[Any], chunksize: int) -> Iterator[Any]:
    return map(function, items)


def compare(
    predictions: Records, ground_truth: Records, repeat: int, peer: Path | None = None
) -> dict[str, dict[str, float]]:
    """Seconds of each evaluator by task; highlights only where clips are graded.

    Raises:
        AssertionError: Their numbers differ.
    """
    seconds: dict[str, dict[str, float]] = {}
    for task, functions in evaluators(peer).items():
        if task == "highlights" and "saliency_scores" not in ground_truth[0]:
            continue
        runs = {name: _best(function, predictions, ground_truth, repeat) for name, function in functions.items()}
        expected = runs["vectorised"][1]
        for name, (_, scores) in runs.items():
            assert scores == expected, f"{task}: {name} gives {scores}, expected {expected}"
        seconds[task] = {name: time for name, (time, _) in runs.items()}
    return seconds


def _best(evaluate: Evaluator, predictions: Records, ground_truth: Records, repeat: int) -> tuple[float, Any]:
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
    parser.add_argument("--peer", type=Path, metavar="FOLDER", help="a checkout with standalone_eval/eval.py")
    args = parser.parse_args(argv)
    predictions, ground_truth = _read(args.predictions), _read(args.ground_truth)
    print(f"{len(ground_truth)} queries\n\n| scores | evaluator | ms | times the vectorised |\n|---|---|---|---|")
    for task, seconds in compare(predictions, ground_truth, args.repeat, args.peer).items():
        for name, value in seconds.items():
            print(f"| {task} | {name} | {1e3 * value:.0f} | {value / seconds['vectorised']:.1f} |")


if __name__ == "__main__":
    main()
