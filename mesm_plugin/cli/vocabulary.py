# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm vocabulary`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesm_plugin.datasets.dataset_names import PublishedDataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to `parser`."""
    parser.add_argument("dataset", metavar="DATASET", help="charades, charades_cg, charades_cd, tacos or qvhighlights")
    parser.add_argument(
        "--out", metavar="FILE", required=True, help="such as GloVe_tokenized_count.txt; - for standard output"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    parser.add_argument(
        "--clip-bpe",
        metavar="FILE",
        help="count CLIP's tokens instead of words, with this byte-pair vocabulary: bpe_simple_vocab_16e6.txt.gz, "
        "tokenizer.json, or a folder with vocab.json and merges.txt",
    )
    parser.add_argument(
        "--data", metavar="DIR", help="folder of all data sets (default: the environment variable MESM_DATA, or data)"
    )
    parser.add_argument(
        "--split",
        metavar="S",
        nargs="+",
        action="extend",
        help="count the sentences of these (default: those of the published file)",
    )
    parser.add_argument(
        "--max-words",
        metavar="N",
        type=int,
        help="count so many words of a sentence, or so many of CLIP's tokens with start and end (default: as the "
        "published file, all words, and 16 tokens, but 32 of QVHighlights)",
    )


def run(args: argparse.Namespace) -> int:
    """Counts the words or tokens of a data set's sentences, writes the counts, and compares them with published ones.

    Returns:
        0.
    """
    from mmengine.logging import MMLogger

    from mesm_plugin.datasets.dataset_names import published_dataset
    from mesm_plugin.datasets.text.byte_pair import BytePairTokenizer
    from mesm_plugin.datasets.text.word_counts import (
        count_tokens,
        count_words,
        counted_splits,
        published_max_tokens,
        sentences_in_order,
    )
    from mesm_plugin.utils import atomic_file

    if Path(args.out).is_dir():
        raise ValueError(f"--out {args.out} is a folder, expected a file to write")
    if args.out != "-" and Path(args.out).exists() and not args.overwrite:
        raise ValueError(f"--out {args.out} exists; name another file, or replace it with --overwrite")
    dataset = published_dataset(args.dataset, args.data)
    tokenizer = None if args.clip_bpe is None else BytePairTokenizer(args.clip_bpe)
    splits = _once(args.split) if args.split else list(counted_splits(dataset))
    logger = MMLogger.get_current_instance()
    level = logger.level
    # What a reader repairs in moments does not matter here.
    logger.setLevel("WARNING")
    try:
        sentences = [sentence for split in splits for sentence in sentences_in_order(dataset, split)]
    finally:
        logger.setLevel(level)
    if tokenizer is None:
        lines = count_words(sentences, args.max_words)
    else:
        limit = published_max_tokens(dataset) if args.max_words is None else args.max_words
        lines = count_tokens(sentences, tokenizer, limit)
    text = "".join(line + "\n" for line in lines)
    as_published = args.split is None and args.max_words is None
    comparison = _comparison(dataset, text, tokenizer is not None, Path(args.out)) if as_published else ""
    if args.out == "-":
        sys.stdout.write(text)
    else:
        with atomic_file(args.out) as unfinished:
            unfinished.write_text(text, encoding="utf-8", newline="\n")
    kind = "words" if tokenizer is None else "tokens"
    total = sum(int(line.rsplit(" ", 1)[1]) for line in lines)
    print(
        f"{dataset.title} ({', '.join(splits)}): {len(sentences)} sentences, {len(lines)} {kind} that occur {total} "
        f"times{comparison}" + ("" if args.out == "-" else f"; written to {args.out}"),
        file=sys.stderr if args.out == "-" else sys.stdout,
    )
    return 0


def _once(splits: list[str]) -> list[str]:
    return list({split.lower().replace("-", "_"): split for split in splits}.values())


def _comparison(dataset: "PublishedDataset", text: str, of_clip: bool, out: Path) -> str:
    """How the counts compare with the published file, if there is one that is not the output itself."""
    name = ("CLIP" if of_clip else "GloVe") + "_tokenized_count.txt"
    path = next((Path(file) for file in dataset.vocabularies if Path(file).name == name), None)
    if path is None or not path.is_file() or path.resolve() == out.resolve():
        return ""
    published = path.read_bytes().decode("utf-8", errors="replace")
    if published.splitlines() == text.splitlines():
        return f"; the same as {path}"
    differing = set(published.splitlines()) ^ set(text.splitlines())
    if not differing:
        return f"; the same counts as {path} in another order"
    entries = {line.split(" ")[0] for line in differing}
    return f"; {len(entries)} entries differ from {path}"
