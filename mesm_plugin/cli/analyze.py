# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm analyze`."""

import argparse
from typing import TYPE_CHECKING

from mesm_plugin.cli.config_arguments import add_config_arguments
from mesm_plugin.utils import write_json

if TYPE_CHECKING:
    from mesm_plugin.analysis import AlignmentStudy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to `parser`."""
    parser.add_argument(
        "analysis",
        choices=("similarity",),
        help="similarity: how much of the text is contained in the segment, before and after both are enhanced "
        "(Fig. 5 of the MESM paper)",
    )
    add_config_arguments(parser)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="file that training wrote")
    parser.add_argument(
        "--without-mlm",
        metavar=("CONFIG", "CHECKPOINT"),
        nargs=2,
        help="a model trained without masked words, for line 2 of the figure (--cfg-options change its config too)",
    )
    parser.add_argument("--split", choices=("train", "val", "test"), default="test", help="of the data set (test)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--query", metavar="QID", help="one query, by its id in the annotations")
    which.add_argument(
        "--queries",
        metavar="N",
        type=_count,
        default=200,
        help='how many queries are drawn at random, or "all" (default 200; the paper draws 1)',
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the draw (default 0)")
    parser.add_argument("--json", metavar="FILE", help="write all numbers as JSON")
    parser.add_argument("--plot", metavar="FILE", help="draw them, as .png, .pdf or .svg")
    parser.add_argument("--device", default="cpu", help="where to compute (default cpu)")


def run(args: argparse.Namespace) -> int:
    """Prints the subspace similarities of text and segment, and writes them as JSON and as a picture."""
    import numpy as np

    from mesm_plugin.analysis import AlignmentStudy, query_features
    from mesm_plugin.apis import GroundingInferencer
    from mesm_plugin.engine.config_loading import read_config

    if args.seed < 0:
        raise ValueError(f"--seed is {args.seed}, expected at least 0")
    if args.plot is not None:
        from mesm_plugin.visualization.figure_file import check_figure_file

        check_figure_file(args.plot)

    def inferencer(config: str, checkpoint: str) -> GroundingInferencer:
        return GroundingInferencer(read_config(config, args.cfg_options), checkpoint, args.device, args.split)

    model = inferencer(args.config, args.checkpoint)
    other = inferencer(*args.without_mlm) if args.without_mlm else None
    if args.query is not None:
        qids = [args.query]
    else:
        known = model.queries.qids
        drawn = min(args.queries or len(known), len(known))
        order = np.random.default_rng(args.seed).permutation(len(known))[:drawn]
        qids = [known[index] for index in sorted(order)]
    study = AlignmentStudy(query_features(model, qids), None if other is None else query_features(other, qids))
    print(similarity_table(study))
    if len(study.features) < len(qids):
        print(f"{len(qids) - len(study.features)} of {len(qids)} queries have no clip inside their moment")
    _write(args, study)
    return 0


def similarity_table(study: "AlignmentStudy") -> str:
    """The similarities of each pair of features as text."""
    from mesm_plugin.analysis import PAIRS

    if len(study.features) == 1:
        query = study.features[0]
        lines = [f"query {query.qid} of video {query.vid}: {query.sentence}", f"segment of {len(query.segment)} clips"]
    else:
        lines = [f"{len(study.features)} queries, mean and standard deviation"]
    lines += ["", f"{'text, segment':<26} {'i = 1':>14} {'all of the text':>17} {'random':>8}"]
    for curve in study.curves:
        chance = sum(values[-1] for values in curve.chance) / len(curve.chance)
        first, whole = curve.of_first(), curve.of_whole_text()
        if len(study.features) == 1:
            cells = [f"{values[0]:.3f}" for values in (first, whole)]
        else:
            cells = [f"{values.mean():.3f} ± {values.std():.3f}" for values in (first, whole)]
        lines.append(f"{curve.pair.label:<26} {cells[0]:>14} {cells[1]:>17} {chance:>8.3f}")
    labels = {pair.key: pair.label for pair in PAIRS}
    lines += [f"left out: {labels[key]}: {reason}" for key, reason in study.left_out.items()]
    return "\n".join(lines)


def _write(args: argparse.Namespace, study: "AlignmentStudy") -> None:
    if args.json is not None:
        record = {
            "config": args.config,
            "checkpoint": args.checkpoint,
            "without_mlm": args.without_mlm,
            "split": args.split,
            "seed": None if args.query is not None else args.seed,
            **study.record(),
        }
        write_json(args.json, record)
        print(f"JSON: {args.json}")
    if args.plot is not None:
        from mesm_plugin.analysis.similarity_figure import draw_similarities
        from mesm_plugin.visualization.figure_file import save_figure

        save_figure(draw_similarities(study), args.plot)
        print(f"Plot: {args.plot}")


def _count(text: str) -> int | None:
    """A number of queries; None = all."""
    if text.lower() == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number of queries, expected 1 or more, or "all"')
    return int(text)
