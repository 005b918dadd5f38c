# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm import-checkpoint`."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to `parser`."""
    parser.add_argument(
        "file",
        metavar="FILE",
        help="checkpoint of the authors of MESM, CG-DETR, EaTR, Moment-DETR, QD-DETR, TR-DETR, UVCOM or Lighthouse",
    )
    parser.add_argument("--out", metavar="FILE.pth", help="checkpoint to write (default: FILE with the ending .pth)")
    parser.add_argument("--config", metavar="FILE.py", help="config to write (default: --out with the ending .py)")
    parser.add_argument(
        "--peer", metavar="NAME", help="whose checkpoint it is: mesm, qd_detr, ... (default: found out)"
    )
    parser.add_argument(
        "--options",
        metavar="FILE.json",
        help="training options (opt.json) for a checkpoint without them; they go before those in FILE",
    )
    parser.add_argument("--force", action="store_true", help="replace files that exist")


def run(args: argparse.Namespace) -> int:
    """Writes checkpoint and config, and prints what they are."""
    from mesm_plugin.converters import import_checkpoint

    done = import_checkpoint(args.file, args.out, args.config, peer=args.peer, options=args.options, force=args.force)
    weights = done.converted.state_dict
    millions = sum(value.numel() for value in weights.values()) / 1e6
    print(f"Read: a checkpoint of {done.converted.code}, {len(weights)} parameters ({millions:.1f} M numbers)")
    if done.written.same_model:
        print(f"Model: that of the shipped config {done.written.base}")
    else:
        print(f"Model: of its own; data set, evaluation and training as in the shipped config {done.written.base}")
    for note in done.written.notes:
        print(f"Note: {note}")
    print(f"Checkpoint: {done.checkpoint}")
    print(f"Config: {done.config}")
    print(f"Next: mesm test {done.config} {done.checkpoint}")
    return 0
