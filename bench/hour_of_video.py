# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Grounds many queries in one long video and prints time and peak memory of the process.

python -m bench.hour_of_video --clips 3600 --queries 1000 --limit-gib 4

The model is that of configs/mesm for Charades-STA with VGG and GloVe, with random weights and features. Ends with an
error if more than the limit was resident. The peak is that of the whole process (`ru_maxrss`), imports included.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.arguments import positive
from bench.end_to_end import peak_rss_mb
from bench.workloads import WORKLOADS
from mesm_plugin.registry import MODELS
from mesm_plugin.utils import write_json


def measure(clips: int, queries: int, max_pair_clips: int | None = None) -> dict[str, Any]:
    """Predicts on a CPU and returns what the JSON file holds.

    Args:
        clips: Lv.
        queries: Q, all of one video.
        max_pair_clips: The grounder's; None = its default.
    """
    torch.manual_seed(0)
    workload = replace(WORKLOADS["charades-vgg-glove"], videos=1, clips=(clips, clips), queries=queries, even=True)
    config = workload.model_config()
    if max_pair_clips is not None:
        config["max_pair_clips"] = max_pair_clips
    model = MODELS.build(config).eval()
    batch = model.data_preprocessor(workload.batch(training=False))
    videos: list[int] = []
    model.video_projection.register_forward_pre_hook(lambda module, inputs: videos.append(len(inputs[0])))
    begin = time.perf_counter()
    with torch.inference_mode():
        (sample,) = model(**batch, mode="predict")
    seconds = time.perf_counter() - begin
    return {
        "clips": clips,
        "queries": len(sample.pred_moments),
        "max_pair_clips": model.max_pair_clips,
        "inference_s": seconds,
        "peak_rss_gib": peak_rss_mb() / 2**10,
        "video_projections": sum(videos),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the result, writes it as JSON; 1 if the limit was passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=positive, default=3600, help="default: 3600, an hour at one clip a second")
    parser.add_argument("--queries", type=positive, default=1000, help="default: 1000")
    parser.add_argument("--max-pair-clips", type=positive, help="the grounder's argument; default: its own")
    parser.add_argument("--limit-gib", type=float, default=4.0, help="most resident memory (default: 4)")
    parser.add_argument("--json", type=Path, help="file to write the result to")
    args = parser.parse_args(argv)
    result = measure(args.clips, args.queries, args.max_pair_clips)
    print(
        "{queries} queries on {clips} clips: {inference_s:.1f} s, at most {peak_rss_gib:.2f} GiB resident, "
        "{video_projections} video projected".format(**result)
    )
    if args.json:
        write_json(args.json, result)
    if result["peak_rss_gib"] > args.limit_gib:
        print(f"more than the limit of {args.limit_gib} GiB", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
