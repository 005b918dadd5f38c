# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""How much of the gradients' reduction over processes goes on while backward does.

python -m bench.overlap --ranks 2 --bucket-mb 2 25

runs the training step of `charades-clip-slowfast` in gloo processes of this machine under DistributedDataParallel, and
prints for each size of bucket how many buckets there are, which share of the bytes was handed to the network before the
last tenth of the gradients' computation (from the start of backward until the last bucket is full), and the seconds of
a step. The processes share the machine's cores, so that the seconds say nothing of machines with cores of their own.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from bench.arguments import positive
from bench.process_group import in_process_group
from bench.workloads import WORKLOADS
from mesm_plugin.registry import MODELS
from mesm_plugin.utils import write_json

WORKLOAD = "charades-clip-slowfast"


def share_before_the_last_tenth(handed: list[tuple[float, int]], begin: float) -> float:
    """Share of the bytes that were handed to the network before the last tenth of the gradients' computation.

    Args:
        handed: Time and bytes of each bucket, in their order. With the last one the computation ends; backward itself
            ends only when all are reduced.
        begin: Time at which it began.
    """
    late = begin + 0.9 * (handed[-1][0] - begin)
    return sum(size for at, size in handed if at < late) / sum(size for _, size in handed)


def _work(rank: int, bucket_mb: float, steps: int, folder: str) -> None:
    torch.manual_seed(0)
    workload = WORKLOADS[WORKLOAD]
    model = MODELS.build(workload.model_config())
    batch = model.data_preprocessor(workload.batch(training=True, seed=rank))
    parallel = DistributedDataParallel(
        model, bucket_cap_mb=bucket_mb, gradient_as_bucket_view=True, find_unused_parameters=True
    )
    handed: list[tuple[float, int]] = []

    def hook(_: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        handed.append((time.perf_counter(), bucket.buffer().nbytes))
        work = dist.all_reduce(bucket.buffer().div_(dist.get_world_size()), async_op=True)
        assert work is not None
        return work.get_future().then(lambda future: future.value()[0])

    parallel.register_comm_hook(None, hook)
    seconds, shares, buckets = [], [], 0
    for _ in range(steps + 1):
        parallel.zero_grad()
        handed.clear()
        begin = time.perf_counter()
        loss = torch.stack(list(parallel(**batch, mode="loss").values())).sum()
        backward = time.perf_counter()
        loss.backward()
        seconds.append(time.perf_counter() - begin)
        shares.append(share_before_the_last_tenth(handed, backward))
        buckets = len(handed)
    if rank == 0:
        row = {
            "bucket_mb": bucket_mb,
            "buckets": buckets,
            "share_before_the_last_tenth": statistics.median(shares[1:]),
            "seconds": statistics.median(seconds[1:]),
        }
        Path(folder, "row.json").write_text(json.dumps(row), encoding="utf-8")


def measure(ranks: int, bucket_mb: float, steps: int) -> dict[str, Any]:
    """Runs some steps in `ranks` processes, and returns what the first one saw."""
    with tempfile.TemporaryDirectory() as folder:
        in_process_group(_work, ranks, bucket_mb, steps, folder)
        row: dict[str, Any] = json.loads(Path(folder, "row.json").read_text(encoding="utf-8"))
    return row


def main() -> None:
    """Prints the table, and writes it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=positive, default=2, help="processes (2)")
    parser.add_argument("--bucket-mb", type=float, nargs="+", default=[2, 25], help="sizes of a bucket (2 25)")
    parser.add_argument("--steps", type=positive, default=5, help="measured steps (5)")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    args = parser.parse_args()
    rows = [measure(args.ranks, size, args.steps) for size in args.bucket_mb]
    for row in rows:
        print(
            "buckets of {bucket_mb:g} MB: {buckets} of them, {share_before_the_last_tenth:.0%} of the bytes handed "
            "over before the last tenth of the computation, {seconds:.3f} s a step without the optimiser".format(**row)
        )
    if args.json:
        write_json(args.json, rows, indent=1)


if __name__ == "__main__":
    main()
