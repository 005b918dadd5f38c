# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import mmap
import os
from pathlib import Path

import pytest

from bench.process_memory import ProcessMemory

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")


def test_memory_that_is_written_is_private() -> None:
    size = 2**26
    before = ProcessMemory.of(os.getpid())
    # Pages of its own, whatever memory the process has kept.
    with mmap.mmap(-1, size) as pages:
        for page in range(0, size, mmap.PAGESIZE):
            pages[page] = 1
        after = ProcessMemory.of(os.getpid())
    for name in ("resident", "proportional", "private"):
        assert getattr(after, name) - getattr(before, name) == pytest.approx(size, rel=0.1)
    assert after.private <= after.proportional <= after.resident


def test_no_such_process() -> None:
    with pytest.raises(OSError, match="No such file"):
        ProcessMemory.of(2**30)
