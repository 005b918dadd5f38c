# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A command in several processes of this machine."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType


def run_in_processes(argv: Sequence[str], count: int) -> int:
    """Runs `mesm` in processes that train or test together, as torchrun starts them.

    If one of them dies the others are ended. SIGTERM is passed on to them.

    Args:
        argv: The arguments, with `--nproc` and without `--launcher`.
        count: How many processes.

    Returns:
        0, another number if a process failed, or 143 after SIGTERM.
    """
    if count < 1:
        raise ValueError(f"--nproc is {count}, expected at least 1")
    arguments = list(argv)
    place = next(i for i, argument in enumerate(arguments) if argument.startswith("--np"))
    del arguments[place : place + (1 if "=" in arguments[place] else 2)]
    # Before an option that takes several values, which would swallow what stands behind it.
    arguments[1:1] = ["--launcher", "pytorch"]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    process = subprocess.Popen([sys.executable, *launcher, "-m", "mesm_plugin.cli.main", *arguments])
    told: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        told.append(number)
        process.terminate()

    former = signal.signal(signal.SIGTERM, pass_on)
    try:
        while True:
            try:
                code = process.wait()
            except KeyboardInterrupt:
                # The processes got the signal, too, and save a checkpoint.
                continue
            return 128 + told[0] if told else code
    finally:
        signal.signal(signal.SIGTERM, former)
