# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The command `mesm`."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn, TextIO

from mesm_plugin.cli.errors import readable
from mesm_plugin.utils import end_process
from mesm_plugin.version import __version__

COMMANDS = {
    "train": "train a config, then test the best checkpoint",
    "check": "look at all inputs of a config before training, and report all that is broken",
    "test": "score a checkpoint on the test split",
    "predict": "find the moments that sentences describe in a video",
    "analyze": "measure what a trained model makes of text and video",
    "import-checkpoint": "turn a checkpoint of a grounder's authors into one with a config of this package",
    "convert-features": "pack features of one file a video or query into one HDF5 file",
    "browse": "show what a data set's annotations hold",
    "vocabulary": "count the words of a data set's sentences",
    "encode-text": "encode the sentences of a data set with CLIP, once for all runs",
    "matrix": "train every grounder with every aligner",
    "reproduce": "run the rows of a table of the paper, and write it beside the published numbers",
    "compare": "put the scores and settings of finished runs beside one another",
    "score": "score a submission, of any code base, on published annotations",
    "submission": "pack predictions for the evaluation server of QVHighlights",
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of `mesm` with all its commands."""
    parser = argparse.ArgumentParser(prog="mesm", description="Video grounding with MESM and MMEngine.")
    parser.add_argument("--version", action="version", version=f"mesm_plugin {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
        module = import_module(f"mesm_plugin.cli.{name.replace('-', '_')}")
        module.add_arguments(command)
        command.add_argument("--debug", action="store_true", help="show the traceback of errors (or set MESM_DEBUG=1)")
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: Arguments after the program's name; those of the process if None.

    Returns:
        What the command returns, usually 0, or 2 after bad input, which is told in one message without a traceback, or
        128 and the number of the signal that stopped it: 130 after Ctrl-C, 141 if what it prints is no longer read.
    """
    args = build_parser().parse_args(argv)
    joined = _process_group() is not None
    try:
        if getattr(args, "nproc", None) is not None:
            from mesm_plugin.cli.processes import run_in_processes

            return run_in_processes(sys.argv[1:] if argv is None else argv, args.nproc)
        code = args.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as interruption:
        print(f"\nmesm: {interruption.args[0] if interruption.args else 'interrupted'}", file=sys.stderr)
        return 128 + getattr(interruption, "signal", signal.SIGINT)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and not _is_read(sys.stdout):
            return 128 + signal.SIGPIPE
        message = readable(error)
        if message is None or args.debug or os.environ.get("MESM_DEBUG"):
            raise
        print(f"mesm {args.command}: error: {message}", file=sys.stderr)
        return 2
    finally:
        if not joined and (distributed := _process_group()) is not None:
            distributed.destroy_process_group()


def _is_read(output: TextIO) -> bool:
    """Whether what is printed reaches a reader; if not, as behind `| head`, the rest goes nowhere."""
    try:
        output.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
        return False
    return True


def _process_group() -> Any:
    """torch.distributed, if this process is one of several; PyTorch is not imported for it."""
    distributed = sys.modules.get("torch.distributed")
    return distributed if distributed and distributed.is_available() and distributed.is_initialized() else None


def run_script(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and ends the process with what `main` returns."""
    code = main(argv)
    if "RANK" in os.environ:
        end_process(code)
    sys.exit(code)


if __name__ == "__main__":
    run_script()
