# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A training that is killed at random moments, in a process that can fork safely."""

import os
import re
import subprocess
import sys


def test_twenty_kills():
    command = [sys.executable, "-m", "tests.engine.kill_trial", "--kills", "20"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    counts = {name: int(count) for name, count in re.findall(r"(\w+) (\d+)", result.stdout.splitlines()[-1])}
    assert counts["kills"] == 20
    assert counts["unfinished"] >= 5, "hardly any process was killed while it wrote a checkpoint"
    # How many steps a process does until it is killed depends on the machine.
    assert counts["compared"] >= 25
