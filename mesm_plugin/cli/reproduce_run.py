# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""One run of a table, in a process of its own: `python -m mesm_plugin.cli.reproduce_run FOLDER NAME`."""

import sys
from pathlib import Path

from mesm_plugin.cli.own_process import run_module, run_recorded
from mesm_plugin.reproduction.training import train_and_score


def run_in_process(folder: Path, name: str) -> None:
    """Trains and scores the run of a folder in a new process; see `run_module`."""
    run_module("mesm_plugin.cli.reproduce_run", folder, [name])


def run_here(folder: Path, name: str) -> int:
    """Trains and scores the run of a folder; training goes on from its last checkpoint where it was interrupted.

    Returns:
        0, or 1 after an error, whose first line `failure.json` then holds.
    """
    return run_recorded(folder, name, train_and_score)


if __name__ == "__main__":
    sys.exit(run_here(Path(sys.argv[1]), sys.argv[2]))
