# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import atexit
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from bench.process_group import in_process_group


def add_ranks(rank: int, folder: str) -> None:
    # As threads of a group do sometimes that something still holds.
    atexit.register(os.abort)
    total = torch.tensor(rank + 1)
    dist.all_reduce(total)
    Path(folder, str(rank)).write_text(f"{total} {torch.get_num_threads()}")
    print(f"of {rank}", end="")


def fail(_rank: int) -> None:
    atexit.register(os.abort)
    raise RuntimeError("there is a reason")


def test_processes_work_together(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    in_process_group(add_ranks, 2, str(tmp_path))
    assert [(tmp_path / name).read_text() for name in "01"] == ["3 1", "3 1"]
    out = capfd.readouterr().out
    assert "of 0" in out
    assert "of 1" in out


def test_a_failure_is_told() -> None:
    with pytest.raises(torch.multiprocessing.ProcessRaisedException, match=r"in fail\n(.*\n)*.*there is a reason"):
        in_process_group(fail, 1)
