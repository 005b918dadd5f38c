# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""One cell of a matrix, in a process of its own: `python -m mesm_plugin.cli.matrix_cell FOLDER NAME`."""

import math
import signal
import subprocess
import sys
import traceback
from pathlib import Path

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from mesm_plugin.cli.errors import readable
from mesm_plugin.engine import launch
from mesm_plugin.matrix.cost import model_cost
from mesm_plugin.matrix.records import CONFIG, COST, FAILURE, RESULT, read_json, write_json

LOG = "train.log"
SIZES_ONLY = "--sizes-only"


def run_in_process(folder: Path, name: str, train: bool = True) -> None:
    """Counts and trains the cell of a folder in a new process, whose output goes to `train.log` in the folder.

    MMEngine keeps much that is global to a process, and a cell that runs out of memory takes its process with it. The
    outcome is in the folder afterwards, whatever happened.

    Args:
        folder: Holds the cell's config.
        name: Of the config of the data set, by which the cell's whole config is written there too.
        train: Whether to train after counting.
    """
    (folder / FAILURE).unlink(missing_ok=True)
    with open(folder / LOG, "a", encoding="utf-8") as log:
        command = [
            sys.executable,
            "-m",
            "mesm_plugin.cli.matrix_cell",
            str(folder),
            name,
            *([] if train else [SIZES_ONLY]),
        ]
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if code and not (folder / FAILURE).is_file():
        ending = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        write_json(folder / FAILURE, {"error": f"its process ended with {ending}, see {LOG}"})


def run_cell(folder: Path, name: str, train: bool = True) -> int:
    """Counts and trains the cell of a folder; training goes on from its last checkpoint where it was interrupted.

    Returns:
        0, or 1 after an error, whose first line `failure.json` then holds.
    """
    try:
        # By the file name MMEngine names the copy it writes; with a text the file need not exist.
        config = Config(read_json(folder / CONFIG), cfg_text=f"# {name}", filename=f"{name}.py")
        if config.get("custom_imports"):
            import_modules_from_strings(**config.custom_imports)
        write_json(folder / COST, model_cost(config))
        if not train:
            return 0
        config.work_dir = str(folder)
        config.launcher = "none"
        config.resume = True
        result = launch.train(config)
        if result is None:
            raise ValueError(f"{name} has neither a test nor a validation split to score")
        numbers = {key: float(value) for key, value in result.metrics.items()}
        metrics = {key: value if math.isfinite(value) else None for key, value in numbers.items()}
        write_json(folder / RESULT, {"metrics": metrics, "data": f"{result.split} split ({result.data})"})
    except Exception as error:
        traceback.print_exc()
        text = readable(error) or f"{type(error).__name__}: {error}"
        write_json(folder / FAILURE, {"error": next(filter(None, text.splitlines()), type(error).__name__)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run_cell(Path(sys.argv[1]), sys.argv[2], SIZES_ONLY not in sys.argv))
