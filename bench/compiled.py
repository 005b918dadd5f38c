# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Measures what `CompileHook` gains: training steps and inference, compiled and eager in turn on the same batches.

python -m bench.compiled --workload charades-clip-slowfast --batches 3 --rounds 3 --json result.json

The batches are random and of different numbers of queries. Eager runs on them as they are, the compiled model on them
padded to their bucket. A training step is that of `bench.end_to_end`. The first calls, which compile, are timed apart;
`graphs` counts the compiled graphs of forward and losses, each of which has a backward.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.utils import counters

from bench.arguments import positive
from bench.workloads import WORKLOADS, Workload
from mesm_plugin.datasets.length_buckets import LengthBuckets
from mesm_plugin.engine.single_graph import SingleGraph
from mesm_plugin.registry import MODELS
from mesm_plugin.utils import write_json

Inputs = dict[str, Tensor]


def buckets_of(workload: Workload, inputs: list[Inputs]) -> LengthBuckets:
    """The longest clips that the workload may have, and the longest words of the batches."""
    return LengthBuckets((workload.clips[1],), (max(x["words"].shape[1] for x in inputs),), 1)


def seconds(run: Callable[[Inputs], Any], inputs: Inputs) -> float:
    """Wall seconds of one call."""
    begin = time.perf_counter()
    run(inputs)
    return time.perf_counter() - begin


def measure(name: str, batches: int, rounds: int, backend: str) -> dict[str, Any]:
    """Runs a workload and returns what the JSON file holds."""
    torch.manual_seed(0)
    workload = WORKLOADS[name]
    model = MODELS.build(workload.model_config())
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=1e-4, fused=True)

    def stepping(loss: Callable[[Inputs], dict[str, Tensor]]) -> Callable[[Inputs], None]:
        def step(inputs: Inputs) -> None:
            optimizer.zero_grad()
            torch.stack(list(loss(inputs).values())).sum().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()

        return step

    result: dict[str, Any] = {"workload": name, "backend": backend, "threads": torch.get_num_threads()}
    for kind, training in (("train_step", True), ("inference", False)):
        model.train(training)
        sizes = [replace(workload, queries=workload.queries + 3 * number) for number in range(batches)]
        plain = [size.batch(training, seed)["inputs"] for seed, size in enumerate(sizes)]
        buckets = buckets_of(workload, plain)
        padded = [buckets.pad(inputs) for inputs in plain]
        method = model.loss if training else model.score_moments
        graph = SingleGraph(method, kind, 8, backend)
        eager, compiled = (stepping(method), stepping(graph)) if training else (method, graph)
        counters.clear()
        with torch.set_grad_enabled(training):
            compile_seconds = sum(seconds(compiled, inputs) for inputs in padded)
            times: dict[str, list[float]] = {"eager": [], "compiled": []}
            seconds(eager, plain[0])
            for _ in range(rounds):
                times["eager"] += [seconds(eager, inputs) for inputs in plain]
                times["compiled"] += [seconds(compiled, inputs) for inputs in padded]
        medians = {form: statistics.median(values) for form, values in times.items()}
        result[kind] = {
            "eager_s": medians["eager"],
            "compiled_s": medians["compiled"],
            "ratio": medians["eager"] / medians["compiled"],
            "first_calls_s": compile_seconds,
            "graphs": counters["stats"]["unique_graphs"],
            "queries": [len(inputs["query_video"]) for inputs in plain],
            "all": times,
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=WORKLOADS, default="charades-clip-slowfast")
    parser.add_argument("--batches", type=positive, default=3, help="different batches")
    parser.add_argument("--rounds", type=positive, default=3, help="measured runs of each batch")
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--json", type=Path, help="file to write the result to")
    arguments = parser.parse_args()
    result = measure(arguments.workload, arguments.batches, arguments.rounds, arguments.backend)
    for kind in ("train_step", "inference"):
        print(
            "{workload}, {kind}: eager {eager_s:.3f} s, compiled {compiled_s:.3f} s, ratio {ratio:.2f}; "
            "{graphs} graphs, first calls {first_calls_s:.0f} s".format(
                workload=result["workload"], kind=kind, **result[kind]
            )
        )
    if arguments.json:
        write_json(arguments.json, result)


if __name__ == "__main__":
    main()
