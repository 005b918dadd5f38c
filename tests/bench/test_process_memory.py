# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path

import numpy as np
import pytest

from bench.process_memory import ProcessMemory

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")


def test_memory_that_is_written_is_private() -> None:
    before = ProcessMemory.of(os.getpid())
    array = np.ones(2**23)
    after = ProcessMemory.of(os.getpid())
    for name in ("resident", "proportional", "private"):
        assert getattr(after, name) - getattr(before, name) == pytest.approx(array.nbytes, rel=0.1)
    assert after.private <= after.proportional <= after.resident


def test_no_such_process() -> None:
    with pytest.raises(OSError, match="No such file"):
        ProcessMemory.of(2**30)
