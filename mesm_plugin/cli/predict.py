# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm predict`."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from mesm_plugin.cli.config_arguments import add_config_arguments, checked_config

if TYPE_CHECKING:
    from mesm_plugin.structures import GroundingDataSample


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to `parser`."""
    add_config_arguments(parser)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="file that training wrote")
    parser.add_argument(
        "--features",
        metavar="FILE",
        nargs="+",
        required=True,
        help="clip features, as the config's data set reads them: HDF5 with one data set a video, or .npy, .npz or .pt "
        "with an array (clips, channels); one file for each that the config joins",
    )
    parser.add_argument("--video", metavar="ID", help="which video of HDF5 files that hold several")
    parser.add_argument(
        "--duration", metavar="S", type=float, help="of the video, seconds (default: clips times the clip length)"
    )
    parser.add_argument(
        "--sentence", metavar="TEXT", action="append", required=True, help="what to look for; may be given repeatedly"
    )
    parser.add_argument("--top", metavar="N", type=int, default=5, help="moments a sentence, best first (default 5)")
    parser.add_argument("--json", metavar="FILE", help="write moments and saliency as JSON; - for standard output")
    parser.add_argument("--plot", metavar="FILE", help="draw them, as .png, .pdf or .svg")
    parser.add_argument(
        "--moment",
        metavar=("START", "END"),
        nargs=2,
        type=float,
        action="append",
        help="true moment in seconds, for the plot; if repeated, one for each sentence in turn",
    )
    parser.add_argument("--device", default="cpu", help="where to compute (default cpu)")


def run(args: argparse.Namespace) -> int:
    """Prints the moments of each sentence, and writes them as JSON and as a picture."""
    import numpy as np

    from mesm_plugin.apis import GroundingInferencer
    from mesm_plugin.apis.feature_files import read_feature_files

    if args.top < 1:
        raise ValueError(f"--top is {args.top}, expected at least 1")
    if args.moment and len(args.moment) not in (1, len(args.sentence)):
        raise ValueError(f"{len(args.moment)} --moment for {len(args.sentence)} --sentence, expected one for each")
    for start, end in args.moment or ():
        if not 0 <= start < end:
            raise ValueError(f"--moment {start} {end} is no moment, expected two seconds with 0 <= START < END")
    inferencer = GroundingInferencer(checked_config(args), args.checkpoint, args.device)
    video, parts = read_feature_files(args.features, args.video)
    sample = inferencer.ground(parts, args.sentence, args.duration, video)
    sample.pred_moments = [moments[: args.top] for moments in sample.pred_moments]
    if args.moment:
        moments = args.moment * (len(args.sentence) if len(args.moment) == 1 else 1)
        sample.set_metainfo({"gt_moments": [np.array([moment]) for moment in moments]})
    if args.json != "-":
        print(moment_table(sample))
    if args.json is not None:
        _write_json(sample, args.json)
    if args.plot is not None:
        from mesm_plugin.engine.figure_file import save_figure
        from mesm_plugin.visualization import draw_timelines

        save_figure(draw_timelines([sample], top=args.top), args.plot)
        print(f"Plot: {args.plot}", file=sys.stderr if args.json == "-" else sys.stdout)
    return 0


def moment_table(sample: "GroundingDataSample") -> str:
    """The predicted moments of each sentence as text."""
    lines = [f"video {sample.vid}, {sample.duration:.1f} s, {sample.num_clips} clips"]
    for sentence, moments in zip(sample.sentences, sample.pred_moments, strict=True):
        lines += ["", sentence, "  rank   start s     end s   score"]
        lines += [
            f"  {rank:4d}  {start:8.2f}  {end:8.2f}  {score:6.3f}"
            for rank, (start, end, score) in enumerate(moments, 1)
        ]
    return "\n".join(lines)


def _write_json(sample: "GroundingDataSample", file: str) -> None:
    text = json.dumps(_record(sample), indent=2, allow_nan=False) + "\n"
    if file == "-":
        sys.stdout.write(text)
        return
    from mesm_plugin.utils.atomic_file import atomic_file

    with atomic_file(file) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    print(f"JSON: {file}")


def _record(sample: "GroundingDataSample") -> dict[str, Any]:
    queries = [
        {
            "sentence": sentence,
            "moments": [dict(zip(("start", "end", "score"), row, strict=True)) for row in moments.round(4).tolist()],
            "saliency": [round(score, 4) for score in saliency.tolist()],
        }
        for sentence, moments, saliency in zip(sample.sentences, sample.pred_moments, sample.pred_saliency, strict=True)
    ]
    return {"video": sample.vid, "duration": sample.duration, "queries": queries}
