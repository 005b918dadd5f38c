# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

ENDING = """
import atexit, os, sys
from mesm_plugin.utils import end_process
atexit.register(os.abort)
print("told", end="")
sys.stderr.write("warned")
end_process(3)
"""


def test_nothing_that_python_does_at_its_end_comes_after_it() -> None:
    # Behind a pipe the output waits to be flushed.
    run = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (3, "told", "warned")
