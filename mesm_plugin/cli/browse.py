# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm browse`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mesm_plugin.cli.config_arguments import add_config_options, checked_config
from mesm_plugin.cli.json_output import output_json

if TYPE_CHECKING:
    from mesm_plugin.browsing.opened_splits import OpenedSplits
    from mesm_plugin.browsing.statistics import Videos


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to `parser`."""
    parser.add_argument(
        "dataset",
        metavar="DATASET",
        help="charades, charades_cg, charades_cd, tacos or qvhighlights, or a config, whose data sets are shown",
    )
    parser.add_argument(
        "--data", metavar="DIR", help="folder of all data sets (default: the environment variable MESM_DATA, or data)"
    )
    add_config_options(parser)
    parser.add_argument("--split", metavar="S", nargs="+", action="extend", help="show these only (default: all)")
    parser.add_argument("--glove", metavar="FILE", help="word vectors: show which words have none")
    parser.add_argument(
        "--vocabulary",
        metavar="FILE",
        help="GloVe_tokenized_count.txt or CLIP_tokenized_count.txt (default: the published one)",
    )
    parser.add_argument(
        "--classes",
        metavar="N",
        type=int,
        help="words of the vocabulary that have a class (default: that of the config, or 1111)",
    )
    parser.add_argument(
        "--features",
        metavar="FILE",
        nargs="+",
        default=[],
        help="HDF5 files, or folders of .npz, .npy or .pt files: read every annotated video and show which cannot be",
    )
    parser.add_argument("--plot", metavar="FILE", help="draw the distributions, as .png, .pdf or .svg")
    parser.add_argument("--json", metavar="FILE", help="write the numbers as JSON; - for standard output")


def run(args: argparse.Namespace) -> int:
    """Prints what the annotations of a data set hold, and writes it as JSON and as a picture.

    Returns:
        0, or 1 if a split, its vocabulary or the features of a video could not be read.
    """
    from mmengine.logging import MMLogger

    # The readers log what the table says.
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel("WARNING")
    try:
        return _browse(args)
    finally:
        logger.setLevel(level)


def _browse(args: argparse.Namespace) -> int:
    from mesm_plugin.browsing.dataset_record import CountedVocabulary, describe
    from mesm_plugin.browsing.dataset_table import dataset_table
    from mesm_plugin.browsing.feature_coverage import open_features

    if args.classes is not None and args.classes < 1:
        raise ValueError(f"--classes is {args.classes}, expected at least 1")
    if args.plot is not None:
        from mesm_plugin.visualization.figure_file import check_figure_file

        check_figure_file(args.plot)
    opened = _open(args)
    names = _chosen(opened, args.split)
    if args.vocabulary is not None:
        opened.vocabularies = {Path(args.vocabulary): next(iter(opened.vocabularies.values()), 1111)}
    if args.classes is not None:
        opened.vocabularies = dict.fromkeys(opened.vocabularies, args.classes)
    features = {path: open_features(Path(path)) for path in args.features}
    vocabularies, broken = [], {}
    for path, size in opened.vocabularies.items():
        try:
            vocabularies.append(CountedVocabulary.read(path, size))
        except (OSError, ValueError) as error:
            if args.vocabulary is not None:
                raise
            broken[path.name] = str(error)
    splits, failed = _read(opened, names)
    failed |= broken
    vectors = None if args.glove is None else _words_with_vector(args.glove, splits)
    record = describe(opened, splits, vocabularies, vectors, features)
    record["unreadable"] = failed
    if args.json != "-":
        print(dataset_table(record))
    for name, problem in failed.items():
        print(f"{name} is not shown: {problem}", file=sys.stderr)
    if args.json is not None:
        output_json(record, args.json)
    if args.plot is not None:
        from mesm_plugin.browsing.dataset_figure import draw_dataset
        from mesm_plugin.visualization.figure_file import save_figure

        save_figure(draw_dataset(opened.title, splits), args.plot)
        print(f"Plot: {args.plot}", file=sys.stderr if args.json == "-" else sys.stdout)
    coverage = [part for split in record["splits"].values() for part in split["features"].values()]
    return 1 if failed or any(part["missing"] or part["unreadable"] for part in coverage) else 0


def _open(args: argparse.Namespace) -> "OpenedSplits":
    """The published data set of that name, or else the config."""
    from mesm_plugin.browsing.opened_splits import open_config, open_published
    from mesm_plugin.datasets.dataset_names import published_dataset
    from mesm_plugin.engine.config_loading import find_config

    try:
        published = published_dataset(args.dataset, args.data)
    except ValueError as unknown:
        try:
            find_config(args.dataset)
        except FileNotFoundError as error:
            problem, _, names = str(unknown).partition("; ")
            _, near, configs = str(error).partition("did you mean ")
            hint = f"did you mean {configs}" if near and "did you mean" not in names else names
            raise ValueError(f"{problem} and no config of that name; {hint}") from error
        if args.data is not None:
            raise ValueError("--data goes with the name of a data set; for a config set MESM_DATA=DIR") from None
    else:
        if args.cfg_options:
            raise ValueError(f"--cfg-options changes a config, but {args.dataset} is the name of a data set")
        return open_published(published)
    config = checked_config(argparse.Namespace(config=args.dataset, cfg_options=args.cfg_options))
    return open_config(args.dataset, config.to_dict())


def _chosen(opened: "OpenedSplits", wanted: list[str] | None) -> list[str]:
    if wanted is None:
        return list(opened.splits)
    known = {split.replace("-", "_").lower(): split for split in opened.splits}
    chosen = []
    for name in wanted:
        plain = name.replace("-", "_").lower()
        found = [split for key, split in known.items() if plain in (key, key.partition("/")[0])]
        if not found:
            raise ValueError(f"--split {name}: {opened.title} has the splits {', '.join(opened.splits)}")
        chosen += found
    return list(dict.fromkeys(chosen))


def _read(opened: "OpenedSplits", names: list[str]) -> "tuple[dict[str, Videos], dict[str, str]]":
    """Videos of the splits that can be read, and what is wrong with the others; raises if there is none to show."""
    splits: dict[str, Videos] = {}
    failed: dict[str, Exception] = {}
    for name in names:
        dataset = opened.splits[name]
        try:
            videos = dataset.load_data_list()
            if not videos:
                raise ValueError(f"{dataset.ann_file}: no query is left; {dict(dataset.repairs)}")
            splits[name] = videos
        except (OSError, ValueError) as error:
            failed[name] = error
    if not splits:
        raise next(iter(failed.values()))
    return splits, {name: str(error) for name, error in failed.items()}


def _words_with_vector(file: str, splits: "dict[str, Videos]") -> set[str]:
    from mesm_plugin.browsing.statistics import count_words
    from mesm_plugin.datasets.text import GloVeText

    return set(GloVeText(file).find({word for videos in splits.values() for word in count_words(videos)}))
