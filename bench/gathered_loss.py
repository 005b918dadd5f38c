# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What it costs to contrast the sentences and segments of all processes.

python -m bench.gathered_loss --ranks 2 4 8

times forward and backward of the contrastive loss in so many gloo processes of this machine, with each process's own
queries and with those of all (`gather`), and prints beside them what a process sends. Processes that share
processor cores wait for one another; that is in the times.

python -m bench.gathered_loss --on-paper

estimates the same for one H100 a process and up to 1,024 of them, from bytes, FLOPs and latencies. Nothing of it was
measured.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from bench.arguments import positive
from bench.gpus import GPUS
from bench.process_group import in_process_group
from mesm_plugin.losses import IoUContrastiveLoss
from mesm_plugin.utils import write_json

FLOAT = 4
# Products of N x N x D: one in forward, and in backward the logits again and a gradient for each side.
PRODUCTS = 4


@dataclass(frozen=True)
class Estimate:
    """Of one step of the gathered loss in one process.

    Attributes:
        ranks: Processes.
        queries: N, of all of them.
        bytes: Sent by a process, and as many received: rows in forward, their gradients in backward.
        gflops: Of forward and backward; each process computes the whole loss.
        logits_mb: One N x N matrix in float32, which PyTorch's operators hold several of and the fused kernel none.
        network_ms: Two ring collectives at the given bandwidth and latency.
        compute_ms: The matrix products at the given rate.
    """

    ranks: int
    queries: int
    bytes: int
    gflops: float
    logits_mb: float
    network_ms: float
    compute_ms: float


def bytes_sent(ranks: int, queries: int, dims: int) -> int:
    """Bytes that a process sends in a ring: text, segment, moments and source, then the gradients of the first two.

    Args:
        ranks: Processes.
        queries: Of a process.
        dims: D.
    """
    row, gradient = FLOAT * (2 * dims + 2) + 8, FLOAT * 2 * dims
    return (ranks - 1) * queries * (row + gradient)


def estimate(ranks: int, queries: int, dims: int, bandwidth: float, latency: float, flops: float) -> Estimate:
    """What a step of the gathered loss costs on paper.

    Args:
        ranks: Processes.
        queries: Of a process.
        dims: D.
        bandwidth: Bytes a second that a process can send.
        latency: Seconds of a hop from one process to the next.
        flops: Operations a second that the products reach.
    """
    everyone, sent = ranks * queries, bytes_sent(ranks, queries, dims)
    operations = PRODUCTS * 2 * everyone**2 * dims
    network = sent / bandwidth + 2 * (ranks - 1) * latency
    return Estimate(
        ranks, everyone, sent, operations / 1e9, FLOAT * everyone**2 / 1e6, network * 1e3, operations / flops * 1e3
    )


def _work(rank: int, queries: int, dims: int, rounds: int, folder: str) -> None:
    torch.manual_seed(rank)
    words = torch.randn(queries, 12, dims, requires_grad=True)
    mask = torch.ones(queries, 12, dtype=torch.bool)
    segment = torch.randn(queries, dims, requires_grad=True)
    moments = torch.rand(queries, 2).cumsum(1)
    source = torch.arange(queries)
    medians = {}
    for name, gather in (("own", False), ("gathered", True)):
        loss = IoUContrastiveLoss(gather=gather)
        seconds = []
        for _ in range(rounds + 2):
            dist.barrier()
            begin = time.perf_counter()
            loss(words, mask, segment, moments, source).backward()
            seconds.append(time.perf_counter() - begin)
        medians[name] = statistics.median(seconds[2:]) * 1e3
    if rank == 0:
        Path(folder, "medians.json").write_text(json.dumps(medians), encoding="utf-8")


def measure(ranks: int, queries: int, dims: int, rounds: int) -> dict[str, Any]:
    """Median milliseconds of forward and backward in the first of `ranks` gloo processes, each on one thread.

    Args:
        ranks: Processes.
        queries: Of a process.
        dims: D.
        rounds: Repetitions, after two that are not counted.
    """
    with tempfile.TemporaryDirectory() as folder:
        in_process_group(_work, ranks, queries, dims, rounds, folder)
        medians = json.loads(Path(folder, "medians.json").read_text(encoding="utf-8"))
    sent = bytes_sent(ranks, queries, dims)
    return {"ranks": ranks, "queries": ranks * queries, "bytes": sent, **medians}


def main() -> None:
    """Prints the table, and writes it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=positive, nargs="+", help="numbers of processes (2 4 8; on paper up to 1024)")
    parser.add_argument("--queries", type=positive, default=31, help="of a process (31)")
    parser.add_argument("--dims", type=positive, default=256, help="of a sentence and a segment (256)")
    parser.add_argument("--rounds", type=positive, default=50, help="repetitions (50)")
    parser.add_argument("--on-paper", action="store_true", help="estimate for GPUs instead of measuring here")
    parser.add_argument("--bandwidth", type=float, default=50, help="on paper: GB/s a process sends (50: 400 Gbit/s)")
    parser.add_argument("--latency", type=float, default=5, help="on paper: microseconds of a hop (5)")
    parser.add_argument("--efficiency", type=float, default=0.5, help="on paper: share of the peak rate (0.5)")
    parser.add_argument("--json", metavar="FILE", help="write the rows to this file")
    args = parser.parse_args()
    if args.on_paper:
        gpu = GPUS["sm_90"]
        rate = gpu.flops["fp32"] * args.efficiency
        sizes = (args.queries, args.dims, args.bandwidth * 1e9, args.latency * 1e-6, rate)
        rows = [asdict(estimate(n, *sizes)) for n in args.ranks or [2**i for i in range(1, 11)]]
        print(f"ESTIMATE, not measured: {gpu.name}, float32 at {rate / 1e12:.0f} TFLOP/s")
    else:
        rows = [measure(ranks, args.queries, args.dims, args.rounds) for ranks in args.ranks or (2, 4, 8)]
        print("measured, ms of forward and backward (gloo, one thread a process)")
    print(" | ".join(rows[0]))
    for row in rows:
        print(" | ".join(f"{value:.3g}" if isinstance(value, float) else f"{value:,}" for value in row.values()))
    if args.json:
        write_json(args.json, rows, indent=1)


if __name__ == "__main__":
    main()
