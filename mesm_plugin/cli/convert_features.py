# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm convert-features`."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mesm_plugin.utils import listed

if TYPE_CHECKING:
    from mesm_plugin.datasets.feature_packing import Completeness, Found, Needed, Packed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to `parser`."""
    parser.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="folder with an .npz, .npy, .pt or .pth file per video or query, or with HDF5 files; or such a file",
    )
    parser.add_argument("--out", metavar="FILE", required=True, help="HDF5 file to write")
    parser.add_argument(
        "--key",
        metavar="NAME",
        help="array of files that hold several, such as pooler_output (default: features, else last_hidden_state)",
    )
    parser.add_argument("--ending", metavar="ENDING", help="which files of a folder of several kinds count, as .npz")
    parser.add_argument("--recursive", action="store_true", help="take the files in sub-folders, too")
    parser.add_argument(
        "--id-prefix",
        metavar="TEXT",
        help="what file names begin with before the id (default: qid, where all are qid and a number)",
    )
    parser.add_argument("--dim", metavar="N", type=int, help="channels that all features must have")
    parser.add_argument("--dtype", choices=("float16", "float32"), help="convert numbers (default: as stored)")
    parser.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        default="stop",
        help="at a file that cannot be used: stop and keep what is finished (default), or leave it out and list it",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it holds something else")
    parser.add_argument("--dataset", metavar="NAME", help="published data set whose ids must all be there")
    parser.add_argument("--data", metavar="DIR", help="folder of the data sets (default: that of MESM_DATA, or data)")
    parser.add_argument("--split", metavar="NAME", nargs="+", default=[], help="of --dataset (default: all)")
    parser.add_argument(
        "--annotations", metavar="ANN", nargs="+", default=[], help="annotation files whose ids must all be there"
    )
    parser.add_argument(
        "--ids", choices=("video", "query"), help="what the ids are (default: whichever more annotations name)"
    )
    parser.add_argument("--allow-missing", action="store_true", help="only report ids that are not there")
    parser.add_argument(
        "--token-ids",
        metavar="BPE",
        help="for word features of CLIP: its byte-pair vocabulary (bpe_simple_vocab_16e6.txt.gz), by which each query "
        "gets the attribute token_ids that masked language modelling needs",
    )
    parser.add_argument("--clip-length", metavar="SECONDS", type=float, help="check clips against durations")


def run(args: argparse.Namespace) -> int:
    """Packs features into one HDF5 file.

    Returns:
        0, or 1 if ids are missing or files were left out.
    """
    from mesm_plugin.datasets.feature_packing import check_completeness, find_entries, pack_features
    from mesm_plugin.utils.progress import track_progress

    _check(args)
    output = Path(args.out)
    needed = _needed(args)
    videos = needed.durations if needed is not None and args.ids != "query" else ()
    found = find_entries(args.sources, args.key, args.ending, args.recursive, args.id_prefix, output, videos)
    for note in found.notes:
        print(note)
    completeness = None
    if needed is not None:
        completeness = check_completeness([entry.id for entry in found.entries], needed, args.ids)
        _report(completeness, needed)
        if completeness.missing and not found.unreadable and not args.allow_missing and args.on_error == "stop":
            print(
                "nothing was written: name further sources, or pack what is there with --allow-missing",
                file=sys.stderr,
            )
            return 1
    is_text = args.ids == "query" or (completeness is not None and completeness.kind == "query") or found.of_queries
    if args.token_ids is not None and not is_text:
        raise ValueError("--token-ids is for word features, and the ids are those of videos")
    packed = pack_features(
        found.entries,
        output,
        sources=args.sources,
        key=args.key,
        dtype=args.dtype,
        dim=args.dim,
        row="word" if is_text else "clip",
        token_ids=_token_ids(args.token_ids, needed),
        skip=args.on_error == "skip",
        overwrite=args.overwrite,
        track=partial(track_progress, unit="files"),
        unreadable=found.unreadable,
    )
    _summarise(packed, found, output, "words" if is_text else "clips", args.dtype)
    if needed is not None and args.clip_length is not None and not is_text:
        _report_lengths(packed, needed, args.clip_length)
    missing = False
    if needed is not None and packed.left_out:
        completeness = check_completeness(packed.lengths, needed, completeness.kind if completeness else args.ids)
        print(
            f"without what was left out, {len(completeness.missing)} of {completeness.needed} are missing"
            + (f": {listed(completeness.missing)}" if completeness.missing else "")
        )
    if completeness is not None:
        missing = bool(completeness.missing) and not args.allow_missing
    return 1 if missing or packed.left_out else 0


def _check(args: argparse.Namespace) -> None:
    if args.dim is not None and args.dim < 1:
        raise ValueError(f"--dim is {args.dim}, expected the number of channels")
    if args.split and args.dataset is None:
        raise ValueError("--split needs --dataset, whose split it is")
    if args.clip_length is not None:
        if not args.clip_length > 0:
            raise ValueError(f"--clip-length is {args.clip_length}, expected seconds > 0")
        if args.dataset is None and not args.annotations:
            raise ValueError("--clip-length needs the durations of --dataset or --annotations")
    for option in ("ids", "allow_missing", "token_ids"):
        if getattr(args, option) and args.dataset is None and not args.annotations:
            raise ValueError(f"--{option.replace('_', '-')} needs --dataset or --annotations to compare with")


def _needed(args: argparse.Namespace) -> "Needed | None":
    from mmengine.logging import MMLogger

    from mesm_plugin.datasets.feature_packing import read_needed

    if args.dataset is None and not args.annotations:
        return None
    # The readers log how many queries they read and repaired, which says nothing of features.
    MMLogger.get_current_instance().setLevel("WARNING")
    return read_needed(args.dataset, args.data, args.split, args.annotations)


def _token_ids(vocabulary: str | None, needed: "Needed | None") -> dict[str, list[int]]:
    """The tokens of each annotated query."""
    if vocabulary is None or needed is None:
        return {}
    from mesm_plugin.datasets.text.byte_pair import BytePairTokenizer

    if needed.ambiguous:
        raise ValueError(
            f"two splits have different sentences for query {listed(needed.ambiguous)}; name the --split whose word "
            "features these are"
        )
    tokenizer = BytePairTokenizer(vocabulary)
    return {qid: tokenizer.encode(sentence) for qid, sentence in needed.sentences.items()}


def _report(completeness: "Completeness", needed: "Needed") -> None:
    kind = {"video": "videos", "query": "queries"}[completeness.kind]
    there = completeness.needed - len(completeness.missing)
    print(f"annotations: {', '.join(needed.splits)}")
    print(f"{there} of {completeness.needed} annotated {kind} have features")
    if completeness.missing:
        print(f"missing {kind}: {listed(completeness.missing)}")
    if completeness.extra:
        print(f"{len(completeness.extra)} that the annotations do not name: {listed(completeness.extra)}")


def _report_lengths(packed: "Packed", needed: "Needed", clip_length: float) -> None:
    from mesm_plugin.datasets.feature_packing.completeness import odd_lengths

    odd = odd_lengths(packed.lengths, needed.durations, clip_length)
    if odd:
        print(
            f"warning: {len(odd)} videos have over 2 clips more or less than their duration over {clip_length:g} s: "
            + listed([f"{vid} ({packed.lengths[vid]} clips, {needed.durations[vid]:.1f} s)" for vid in odd])
        )
    else:
        print(f"clips: as many as the durations over {clip_length:g} s, up to 2 more or less")


def _summarise(packed: "Packed", found: "Found", output: Path, rows: str, dtype: str | None) -> None:
    if packed.discarded:
        print(f"{packed.discarded} files that were finished with other options were read again")
    if packed.kept and not packed.up_to_date:
        print(f"{packed.kept} of {len(found.entries)} were finished before")
    lengths = sorted(packed.lengths.values())
    dtypes = ", ".join(name if len(packed.dtypes) == 1 else f"{n} x {name}" for name, n in packed.dtypes.most_common())
    state = "is up to date" if packed.up_to_date else "written"
    spread = f"{lengths[0]} to {lengths[-1]} {rows} of {packed.channels} channels"
    print(f"{output} {state}: {len(lengths)} data sets, {spread}, {dtypes}, {output.stat().st_size / 1e6:.1f} MB")
    if packed.change is not None:
        print(f"conversion to {dtype} changed values by up to {packed.change:.2g}")
    if packed.left_out:
        from mesm_plugin.datasets.feature_packing.packer import left_out_file, parts_folder

        total = len(packed.left_out) + len(packed.lengths)
        print(f"left out {len(packed.left_out)} of {total}, listed in {left_out_file(output)}:", file=sys.stderr)
        for _, problem in list(packed.left_out.values())[:10]:
            print(f"  {problem}", file=sys.stderr)
        if len(packed.left_out) > 10:
            print(f"  and {len(packed.left_out) - 10} more", file=sys.stderr)
        print(
            f"mend them and run the same command again, which reads only these; {parts_folder(output)} is for that",
            file=sys.stderr,
        )
