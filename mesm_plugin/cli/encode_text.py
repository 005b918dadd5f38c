# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm encode-text`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesm_plugin.datasets.dataset_names import PublishedDataset

# Of the shipped configs, which cut sentences as the released code does.
MAX_WORDS = {"qvhighlights": 32}
USUAL_MAX_WORDS = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to `parser`."""
    parser.add_argument("dataset", metavar="DATASET", help="published data set, such as charades or qvhighlights")
    parser.add_argument(
        "--weights",
        metavar="PATH",
        required=True,
        help="of CLIP's text tower: a file of OpenAI, open_clip, Hugging Face (or its folder) or MESM's authors",
    )
    parser.add_argument(
        "--bpe",
        metavar="PATH",
        required=True,
        help="CLIP's byte-pair vocabulary: bpe_simple_vocab_16e6.txt.gz, tokenizer.json, or a folder with vocab.json "
        "and merges.txt",
    )
    parser.add_argument("--out", metavar="FILE", required=True, help="HDF5 file to write")
    parser.add_argument("--data", metavar="DIR", help="folder of the data sets (default: that of MESM_DATA, or data)")
    parser.add_argument("--split", metavar="NAME", nargs="+", help="splits to encode (default: all)")
    parser.add_argument(
        "--max-words",
        metavar="N",
        type=int,
        help="most tokens of a sentence, start and end included (default: 32 for qvhighlights, 16 for the others)",
    )
    parser.add_argument(
        "--activation",
        choices=("quick_gelu", "gelu"),
        help="of the text tower (default: what a config.json beside the weights says, or else quick_gelu)",
    )
    parser.add_argument("--batch-size", metavar="N", type=int, default=64, help="sentences at a time (default 64)")
    parser.add_argument("--device", default="cpu", help="where to compute (default cpu)")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")


def run(args: argparse.Namespace) -> int:
    """Encodes the sentences of a data set with CLIP, and writes one HDF5 file."""
    from mesm_plugin.datasets.dataset_names import published_dataset
    from mesm_plugin.datasets.text.clip_text import CLIPText
    from mesm_plugin.datasets.text.word_feature_file import write_word_features

    out = Path(args.out)
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder, expected a file to write")
    if out.exists() and not args.overwrite:
        raise ValueError(f"--out {out} exists; name another file, or replace it with --overwrite")
    dataset = published_dataset(args.dataset, args.data)
    max_words = args.max_words if args.max_words is not None else MAX_WORDS.get(dataset.name, USUAL_MAX_WORDS)
    text = CLIPText(
        args.weights,
        args.bpe,
        max_words=max_words,
        normalize=False,
        activation=args.activation,
        batch_size=args.batch_size,
        device=args.device,
    )
    queries = _queries(dataset, args.split or list(dataset.splits))
    tokens = write_word_features(text, queries, out)
    print(f"{out}: {len(queries)} queries of {dataset.title}, {tokens} tokens, at most {max_words} a query")
    return 0


def _queries(dataset: "PublishedDataset", splits: list[str]) -> dict[str, str]:
    """The sentence of every query id."""
    queries: dict[str, str] = {}
    for split in splits:
        for video in dataset.read(split):
            for query in video["queries"]:
                qid, sentence = str(query["qid"]), query["sentence"]
                if queries.setdefault(qid, sentence) != sentence:
                    raise ValueError(
                        f"the ids of {dataset.title} count anew in each split, so query {qid} of {split} is another "
                        f"one than before; write a file for each: --split {splits[0]}, and so on"
                    )
    return queries
