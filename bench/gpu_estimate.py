# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Estimates the time of a training step and of inference on GPUs from operations, bytes and launches.

python -m bench.gpu_estimate --json estimate.json

Nothing is run on a GPU. The eager code runs on PyTorch's meta device, without the operators that are for CPUs only.
Every operator that is dispatched and is no view is a launch; its bytes are those of its input and output tensors, as if
nothing stayed in a cache. The estimate is max(operations / rate, bytes / bandwidth) + launches x launch time, float32
at the rate of `bench.gpus`. Operators that a GPU splits into several kernels count as one; Triton's kernels and the
fused form of the optimiser are not assumed, nor are the peak rates ever reached.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from bench.gpus import GPUS, Gpu
from bench.workloads import WORKLOADS
from mesm_plugin.registry import MODELS
from mesm_plugin.utils import write_json

LAUNCH_SECONDS = 5e-6
"""Assumed time of the host to launch a kernel from eager PyTorch."""
ALLOCATIONS = frozenset({"aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty", "aten::detach"})


@dataclass(frozen=True)
class Cost:
    """What a run costs on any device.

    Attributes:
        flops: Floating-point operations of matrix products and attention.
        bytes: Of the inputs and outputs of all launches.
        launches: Dispatched operators, without views and bare allocations.
    """

    flops: int
    bytes: int
    launches: int

    def seconds(self, gpu: Gpu, launch_seconds: float = LAUNCH_SECONDS) -> float:
        """Estimated time on a GPU in float32."""
        return max(self.flops / gpu.flops["fp32"], self.bytes / gpu.bandwidth) + self.launches * launch_seconds


class _Counter(TorchDispatchMode):
    """Counts launches and their bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.launches = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view and func.name().split(".")[0] not in ALLOCATIONS:
            tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
            self.launches += 1
            # What is expanded lies in memory once, and what is written in place is both read and written.
            self.bytes += sum(min(x.numel() * x.element_size(), x.untyped_storage().nbytes()) for x in tensors)
        return result


def cost_of(run: Callable[[], Any]) -> Cost:
    """Counts what `run` costs; it is run twice."""
    with FlopCounterMode(display=False) as flops:
        run()
    with _Counter() as counter:
        run()
    return Cost(flops.get_total_flops(), counter.bytes, counter.launches)


def costs(name: str) -> dict[str, Cost]:
    """Training step (forward, losses, backward, clipping, AdamW) and inference of a workload."""
    torch.manual_seed(0)
    workload = WORKLOADS[name]
    model = MODELS.build(workload.model_config()).to("meta")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, foreach=True)
    inputs, test_inputs = (
        {key: value.to("meta") for key, value in workload.batch(training)["inputs"].items()}
        for training in (True, False)
    )

    def train_step() -> None:
        torch.stack(list(model.loss(inputs).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad()

    def inference() -> None:
        model.score_moments(test_inputs)

    model.train()
    found = {"training step": cost_of(train_step)}
    # PyTorch's counter wants the graph of whatever needs gradients.
    model.eval().requires_grad_(False)
    return found | {"inference": cost_of(inference)}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table in Markdown, and writes the numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=WORKLOADS, nargs="+", default=list(WORKLOADS))
    parser.add_argument("--launch-us", type=float, default=LAUNCH_SECONDS * 1e6, help="assumed microseconds a launch")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    args = parser.parse_args(argv)
    if not args.launch_us >= 0:
        parser.error(f"--launch-us must be at least 0, got {args.launch_us}")
    print("Estimated milliseconds; nothing was run on a GPU.\n")
    print(f"| workload | GFLOP | GB | launches | {' | '.join(gpu.name for gpu in GPUS.values())} |")
    print(f"|---|{'---|' * (3 + len(GPUS))}")
    written = []
    for name in args.workload:
        for what, cost in costs(name).items():
            seconds = {gpu.name: cost.seconds(gpu, args.launch_us * 1e-6) for gpu in GPUS.values()}
            numbers = " | ".join(f"{value * 1e3:.1f}" for value in seconds.values())
            print(
                f"| `{name}`, {what} | {cost.flops / 1e9:.0f} | {cost.bytes / 1e9:.1f} | {cost.launches} | {numbers} |"
            )
            written.append({"workload": name, "what": what, **asdict(cost), "estimated_seconds": seconds})
    if args.json is not None:
        write_json(args.json, written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
