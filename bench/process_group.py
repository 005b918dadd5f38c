# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Work that several processes of this machine do together."""

import tempfile
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from mesm_plugin.utils import end_process


def in_process_group(work: Callable[..., None], processes: int, *arguments: Any) -> None:
    """Calls `work(rank, *arguments)` in new processes, which gloo joins, each on one thread; returns when all are done.

    Args:
        work: A function of a module. What it finds out it writes to files.
        processes: How many.
        *arguments: What can be pickled.

    Raises:
        torch.multiprocessing.ProcessRaisedException: With the traceback of a process in which `work` failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.start_processes(
            _work, args=(processes, f"{folder}/meeting", work, arguments), nprocs=processes, start_method="spawn"
        )


def _work(rank: int, processes: int, meeting: str, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=processes)
    work(rank, *arguments)
    # A process that leaves while others still talk to it can end them.
    dist.barrier()
    end_process(0)
