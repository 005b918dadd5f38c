# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""One cell of a matrix, in a process of its own: `python -m mesm_plugin.cli.matrix_cell FOLDER NAME`."""

import sys
from pathlib import Path

from mmengine.config import Config

from mesm_plugin.cli.own_process import run_module, run_recorded
from mesm_plugin.engine import train_and_test
from mesm_plugin.engine.run_folder import RESULT
from mesm_plugin.matrix.cost import model_cost
from mesm_plugin.matrix.records import COST
from mesm_plugin.utils import write_json

SIZES_ONLY = "--sizes-only"


def run_in_process(folder: Path, name: str, train: bool = True) -> None:
    """Counts and trains the cell of a folder in a new process; see `run_module`.

    Args:
        folder: Holds the cell's config.
        name: Of the config of the data set, by which the cell's whole config is written there too.
        train: Whether to train after counting.
    """
    run_module("mesm_plugin.cli.matrix_cell", folder, [name, *([] if train else [SIZES_ONLY])])


def run_cell(folder: Path, name: str, train: bool = True) -> int:
    """Counts and trains the cell of a folder; training goes on from its last checkpoint where it was interrupted.

    Returns:
        0, or 1 after an error, whose first line `failure.json` then holds.
    """

    def work(config: Config) -> None:
        write_json(folder / COST, model_cost(config))
        if not train:
            return
        result = train_and_test.train(config)
        if result is None:
            raise ValueError(f"{name} has neither a test nor a validation split to score")
        write_json(folder / RESULT, {"metrics": result.scores, "data": f"{result.split} split ({result.data})"})

    return run_recorded(folder, name, work)


if __name__ == "__main__":
    sys.exit(run_cell(Path(sys.argv[1]), sys.argv[2], SIZES_ONLY not in sys.argv))
