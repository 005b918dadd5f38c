# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A run in a process of its own, with its outcome in its folder."""

import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from mesm_plugin.cli.errors import readable
from mesm_plugin.engine.run_folder import CONFIG, FAILURE, read_if_there
from mesm_plugin.utils import write_json

LOG = "train.log"
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_module(module: str, folder: Path, arguments: Sequence[str]) -> None:
    """Runs `python -m MODULE FOLDER ARGUMENTS`, whose output goes to `train.log` in the folder.

    MMEngine keeps much that is global to a process, and a run that exhausts the memory takes its process with it. The
    outcome is in the folder afterwards, whatever happened.

    Raises:
        KeyboardInterrupt: On Ctrl-C or SIGTERM, once the process has saved its checkpoint and ended.
    """
    (folder / FAILURE).unlink(missing_ok=True)
    with open(folder / LOG, "a", encoding="utf-8") as log:
        command = [sys.executable, "-m", module, str(folder), *arguments]
        # In a session of its own it gets no signal of the terminal beside the one that is passed on.
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        code = _wait(process)
    if code and not (folder / FAILURE).is_file():
        ending = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        write_json(folder / FAILURE, {"error": f"its process ended with {ending}, see {LOG}"})


def run_recorded(folder: Path, name: str, work: Callable[[Config], None]) -> int:
    """Calls `work` with the config of a folder, in whose file `failure.json` the first line of an error is kept.

    Args:
        folder: Holds the config.
        name: By which MMEngine writes the config there too.
        work: Is given the config, which trains in the folder and goes on from its last checkpoint.

    Returns:
        0, or 1 after an error.
    """
    try:
        # By the file name MMEngine names the copy it writes; with a text the file need not exist.
        config = Config(
            read_if_there(folder / CONFIG), cfg_text=f"# {name}", filename=f"{name}.py", format_python_code=False
        )
        if config.get("custom_imports"):
            import_modules_from_strings(**config.custom_imports)
        config.work_dir = str(folder)
        config.launcher = "none"
        config.resume = True
        work(config)
    except Exception as error:
        traceback.print_exc()
        text = readable(error) or f"{type(error).__name__}: {error}"
        write_json(folder / FAILURE, {"error": next(filter(None, text.splitlines()), type(error).__name__)})
        return 1
    return 0


def _wait(process: "subprocess.Popen[bytes]") -> int:
    """The exit status; a signal to stop is passed on once, so that the process saves, and a second one kills it."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        former: dict[int, Any] = {number: signal.signal(number, stop) for number in STOPPING}
    except ValueError:  # not in the main thread
        former = {}
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        try:
            process.wait()
        except KeyboardInterrupt:
            process.kill()
            process.wait()
        raise
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
