# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm predict`."""

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesm_plugin.cli.compared_models import ComparedModel, add_compare_arguments
from mesm_plugin.cli.config_arguments import add_config_arguments, checked_config
from mesm_plugin.cli.json_output import output_json

if TYPE_CHECKING:
    from mesm_plugin.apis import GroundingInferencer
    from mesm_plugin.structures import GroundingDataSample

    Predictions = dict[str, GroundingDataSample]
    """What each model predicts, by its label."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to `parser`."""
    add_config_arguments(parser)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="file that training wrote")
    what = parser.add_argument_group("what to look for", "a video and sentences of your own, or an annotated query")
    video = what.add_mutually_exclusive_group(required=True)
    video.add_argument(
        "--query",
        metavar="QID",
        help="a query of the config's data set, which video, features, sentence and true moments are taken from",
    )
    video.add_argument(
        "--features",
        metavar="FILE",
        nargs="+",
        help="clip features, as the config's data set reads them: HDF5 with one data set a video, or .npy, .npz or .pt "
        "with an array (clips, channels); one file for each that the config joins",
    )
    what.add_argument("--video", metavar="ID", help="which video of HDF5 files that hold several")
    what.add_argument(
        "--duration", metavar="S", type=float, help="of the video, seconds (default: clips times the clip length)"
    )
    what.add_argument("--sentence", metavar="TEXT", action="append", help="what to look for; may be given repeatedly")
    what.add_argument(
        "--moment",
        metavar=("START", "END"),
        nargs=2,
        type=float,
        action="append",
        help="true moment in seconds, for the plot; if repeated, one for each sentence in turn",
    )
    what.add_argument("--split", choices=("train", "val", "test"), help="of the data set, with --query (default test)")
    add_compare_arguments(parser)
    out = parser.add_argument_group("output")
    out.add_argument("--top", metavar="N", type=int, default=5, help="moments a sentence, best first (default 5)")
    out.add_argument("--json", metavar="FILE", help="write moments and saliency as JSON; - for standard output")
    out.add_argument("--plot", metavar="FILE", help="draw them, as .png, .pdf or .svg")
    out.add_argument(
        "--frames",
        metavar="PATH",
        nargs="+",
        help="for the plot: a video file, a folder of images in the order of their names, or image files in order",
    )
    parser.add_argument("--device", default="cpu", help="where to compute (default cpu)")


def run(args: argparse.Namespace) -> int:
    """Prints the moments of each sentence, and writes them as JSON and as a picture."""
    _check(args)
    if args.plot is not None:
        from mesm_plugin.visualization.figure_file import check_figure_file

        check_figure_file(args.plot)
    first = ComparedModel(args.config, args.checkpoint, args.features, args.cfg_options)
    models = [first, *(args.compare or ())]
    labels = _labels(args.label, models)
    # What is logged meanwhile is no part of the JSON.
    with contextlib.redirect_stdout(sys.stderr) if args.json == "-" else contextlib.nullcontext():
        predictions = _predictions(args, models, labels)
    _set_true_moments(args, predictions)
    for sample in predictions.values():
        sample.pred_moments = [moments[: args.top] for moments in sample.pred_moments]
    figure = _figure(args, predictions) if args.plot is not None else None
    if args.json != "-":
        print(moment_table(predictions))
    if args.json is not None:
        output_json(_record(predictions, models), args.json)
    if figure is not None:
        from mesm_plugin.visualization.figure_file import save_figure

        save_figure(figure, args.plot)
        print(f"Plot: {args.plot}", file=sys.stderr if args.json == "-" else sys.stdout)
    return 0


def _check(args: argparse.Namespace) -> None:
    own = ("video", "duration", "sentence", "moment")
    if args.query is not None:
        given = [name for name in own if getattr(args, name) is not None]
        if given:
            raise ValueError(f"--{given[0]} does not go with --query, which takes it from the data set of the config")
    elif args.split is not None:
        raise ValueError("--split is the split of --query, which is not given")
    elif not args.sentence:
        raise ValueError("--sentence is missing, which says what to look for in the video of --features")
    if args.top < 1:
        raise ValueError(f"--top is {args.top}, expected at least 1")
    if args.frames and args.plot is None:
        raise ValueError("--frames are for the picture, and --plot, where to draw it, is not given")
    if args.moment and len(args.moment) not in (1, len(args.sentence)):
        raise ValueError(f"{len(args.moment)} --moment for {len(args.sentence)} --sentence, expected one for each")
    for start, end in args.moment or ():
        if not 0 <= start < end:
            raise ValueError(f"--moment {start} {end} is no moment, expected two seconds with 0 <= START < END")
    if args.query is not None and any(model.features for model in args.compare or ()):
        raise ValueError(
            "--compare-features does not go with --query, which takes features from each config's data set"
        )


def _labels(given: list[str] | None, models: list[ComparedModel]) -> list[str]:
    """One label a model: those given, or the names of the configs, with those of the checkpoints where needed."""
    if given is not None:
        if len(given) != len(models):
            expected = f"{len(models)}, first that of CHECKPOINT and then one for each --compare"
            raise ValueError(f"got {len(given)} --label, expected {expected}")
        twice = next((label for label in given if given.count(label) > 1), None)
        if twice is not None:
            raise ValueError(f"--label {twice!r} is given twice, expected another label for each model")
        return given
    names = [Path(model.config).stem for model in models]
    if len(set(names)) == len(names):
        return names
    return [f"{number}: {Path(model.checkpoint).stem}" for number, model in enumerate(models, 1)]


def _predictions(args: argparse.Namespace, models: list[ComparedModel], labels: list[str]) -> "Predictions":
    from mesm_plugin.apis import GroundingInferencer

    predictions: Predictions = {}
    for model, label in zip(models, labels, strict=True):
        config = checked_config(argparse.Namespace(config=model.config, cfg_options=model.cfg_options))
        inferencer = GroundingInferencer(config, model.checkpoint, args.device, args.split or "test")
        earlier = next(iter(predictions.values()), None)
        predictions[label] = _predict(args, inferencer, model.features or args.features, earlier)
    return predictions


def _predict(
    args: argparse.Namespace,
    inferencer: "GroundingInferencer",
    features: list[str] | None,
    earlier: "GroundingDataSample | None",
) -> "GroundingDataSample":
    """What a model predicts; `earlier` is what the first model did, for the same video and sentences."""
    from mesm_plugin.apis.feature_files import read_feature_files

    if features is None:
        sample = inferencer.ground_query(args.query)
        if earlier is not None and (earlier.vid, earlier.sentences) != (sample.vid, sample.sentences):
            raise ValueError(
                f"query {args.query} is {earlier.sentences[0]!r} in video {earlier.vid} of the first config's data "
                f"set, but {sample.sentences[0]!r} in {sample.vid} of {inferencer.name}: the configs have other data "
                "sets"
            )
        return sample
    video, parts = read_feature_files(features, args.video)
    duration = args.duration if earlier is None else earlier.duration
    return inferencer.ground(parts, args.sentence, duration, video, places=features)


def _set_true_moments(args: argparse.Namespace, predictions: "Predictions") -> None:
    import numpy as np

    if not args.moment:
        return
    moments = args.moment * (len(args.sentence) if len(args.moment) == 1 else 1)
    for sample in predictions.values():
        for start, end in moments:
            if start >= sample.duration:
                raise ValueError(f"--moment {start} {end} starts after the end of the video, {sample.duration:.1f} s")
        sample.set_metainfo({"gt_moments": [np.array([moment]) for moment in moments]})


def _figure(args: argparse.Namespace, predictions: "Predictions") -> Any:
    from mesm_plugin.visualization import draw_comparison, draw_timelines

    samples = list(predictions.values())
    if len(samples) == 1 and not args.frames:
        return draw_timelines(samples, top=args.top)
    frames = None
    if args.frames:
        from mesm_plugin.visualization.comparison import STRIP_COLUMNS, STRIP_ROWS
        from mesm_plugin.visualization.frames import read_frames

        frames = read_frames(args.frames, samples[0].duration, STRIP_ROWS, STRIP_COLUMNS)
    return draw_comparison(samples, list(predictions), frames)


def moment_table(predictions: "Predictions") -> str:
    """The predicted moments of each sentence as text, below each other where several models predict."""
    first = next(iter(predictions.values()))
    lines = [f"video {first.vid}, {first.duration:.1f} s, {first.num_clips} clips"]
    for index, sentence in enumerate(first.sentences):
        lines += ["", sentence]
        for label, sample in predictions.items():
            lines += [f"  {label}"] if len(predictions) > 1 else []
            lines += ["  rank   start s     end s   score"]
            lines += [
                f"  {rank:4d}  {start:8.2f}  {end:8.2f}  {score:6.3f}"
                for rank, (start, end, score) in enumerate(sample.pred_moments[index], 1)
            ]
        if "gt_moments" in first:
            lines += [f"  true  {start:8.2f}  {end:8.2f}" for start, end in first.gt_moments[index]]
    return "\n".join(lines)


def _record(predictions: "Predictions", models: list[ComparedModel]) -> dict[str, Any]:
    first = next(iter(predictions.values()))
    record: dict[str, Any] = {"video": first.vid, "duration": first.duration}
    if len(models) == 1:
        return {**record, "queries": _queries(first)}
    record["models"] = [
        {"label": label, "config": model.config, "checkpoint": model.checkpoint, "queries": _queries(sample)}
        for (label, sample), model in zip(predictions.items(), models, strict=True)
    ]
    return record


def _queries(sample: "GroundingDataSample") -> list[dict[str, Any]]:
    queries = []
    for index, sentence in enumerate(sample.sentences):
        query: dict[str, Any] = {} if sample.qids[index] is None else {"qid": sample.qids[index]}
        query["sentence"] = sentence
        if "gt_moments" in sample:
            query["true_moments"] = sample.gt_moments[index].tolist()
        rows = sample.pred_moments[index].round(4).tolist()
        query["moments"] = [dict(zip(("start", "end", "score"), row, strict=True)) for row in rows]
        query["saliency"] = [round(score, 4) for score in sample.pred_saliency[index].tolist()]
        queries.append(query)
    return queries
