# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Measures a training step and inference of MESM on random features.

python -m bench.end_to_end --workload charades-clip-slowfast --repeat 5 --json result.json

A training step is forward, all losses, backward, gradient clipping and AdamW, dropout on; three steps are run before
the measured ones, and the batch lies on the device before the clock starts. `gemm_share` is the rate of the step's
matrix products over the whole step, divided by the rate that one large float32 product reaches on the same device;
products of padding that is left out do not count. With `--amp` forward and losses run under autocast to bfloat16; the
rate beside them stays that of float32.
"""

import argparse
import contextlib
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.arguments import positive
from bench.flops import count_flops
from bench.workloads import WORKLOADS
from mesm_plugin.registry import MODELS
from mesm_plugin.utils import write_json

# The first steps take memory from the operating system that the later ones use again.
WARM_UP = 3


def seconds_of(run: Callable[[], Any], repeat: int, device: torch.device) -> list[float]:
    """Wall seconds of each of `repeat` runs on the device after `WARM_UP` that are not counted."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(WARM_UP):
        run()
    seconds = []
    for _ in range(repeat):
        wait()
        begin = time.perf_counter()
        run()
        wait()
        seconds.append(time.perf_counter() - begin)
    return seconds


def gemm_rate(device: torch.device, size: int = 2048, repeat: int = 5) -> float:
    """Floating-point operations a second of a square float32 product; the best of several."""
    a, b = torch.randn(2, size, size, device=device)
    return 2 * size**3 / min(seconds_of(lambda: a @ b, repeat, device))


def peak_rss_mb() -> float:
    """The most memory that this process had resident."""
    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if platform.system() == "Darwin" else 2**10)


def _keep_freed_memory() -> None:
    """What the engine does before training on a CPU, if the revision that is measured does so."""
    with contextlib.suppress(ImportError):
        from mesm_plugin.engine.freed_memory import keep_freed_memory

        keep_freed_memory()


def measure(name: str, repeat: int, device: torch.device, amp: bool = False) -> dict[str, Any]:
    """Runs a workload on a device, with `amp` under autocast to bfloat16, and returns what the JSON file holds."""
    if device.type == "cpu":
        _keep_freed_memory()
    torch.manual_seed(0)
    workload = WORKLOADS[name]
    model = MODELS.build(workload.model_config()).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=1e-4, fused=True)
    batch = model.data_preprocessor(workload.batch(training=True))

    def train_step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            loss = torch.stack(list(model(**batch, mode="loss").values())).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()

    model.train()
    train = seconds_of(train_step, repeat, device)

    model.eval()
    test_batch = model.data_preprocessor(workload.batch(training=False))

    def inference() -> None:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=amp):
            model(**test_batch, mode="predict")

    test = seconds_of(inference, repeat, device)
    # Of the model alone, before anything is counted.
    peak = peak_rss_mb()
    model.train()
    flops = count_flops(train_step)
    rate = gemm_rate(device)
    result = {
        "workload": name,
        "amp": amp,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "train_step_s": statistics.median(train),
        "inference_s": statistics.median(test),
        "train_step_s_all": train,
        "inference_s_all": test,
        "peak_rss_mb": peak,
        "flops": flops,
        "gemm_rate_flops_s": rate,
        "gemm_share": flops / statistics.median(train) / rate,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }
    if device.type == "cuda":
        result["peak_device_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=WORKLOADS, default="charades-clip-slowfast")
    parser.add_argument("--repeat", type=positive, default=5, help="measured runs")
    parser.add_argument("--amp", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--device", type=torch.device, default="cpu", help='"cpu" or "cuda"')
    parser.add_argument("--json", type=Path, help="file to write the result to")
    arguments = parser.parse_args()
    if arguments.device.type == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device {arguments.device}: PyTorch sees no GPU")
    result = measure(arguments.workload, arguments.repeat, arguments.device, arguments.amp)
    print(
        "{workload}: training step {train_step_s:.3f} s, inference {inference_s:.3f} s, peak {peak_rss_mb:.0f} MB, "
        "{flops:.3g} FLOP a step, {gemm_share:.0%} of the {gemm_rate_flops_s:.3g} FLOP/s of a matrix product".format(
            **result
        )
    )
    if arguments.json:
        write_json(arguments.json, result)


if __name__ == "__main__":
    main()
