# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Processes that wait for one that is stopped end; those that wait for a slow one go on."""

import os
import signal
import subprocess
import sys
import time

import pytest

WAITING = """
import os, signal, sys, time
import torch.distributed as dist
from mesm_plugin.engine.heartbeat import Heartbeat
from mesm_plugin.utils import end_process

folder, rank, last, how = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
with Heartbeat(limit=1.5, interval=0.1) as heartbeat:
    heartbeat.start()
    dist.barrier()
    if rank == last:
        print("late", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP) if how == "stopped" else time.sleep(4)
    dist.barrier()
end_process(0)
"""


@pytest.mark.parametrize(("last", "how"), [(0, "stopped"), (1, "stopped"), (1, "slow")])
def test_waiting_for_a_process(tmp_path, last, how):
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WAITING, str(tmp_path)]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(last), how], env=environment, text=True, stdout=-1, stderr=subprocess.PIPE
        )
        for rank in range(2)
    ]
    late, waiting = processes[last], processes[1 - last]
    try:
        assert late.stdout.readline() == "late\n"
        begin = time.monotonic()
        _, errors = waiting.communicate(timeout=60)
        if how == "slow":
            assert (waiting.returncode, late.wait(60)) == (0, 0), errors
            return
        assert waiting.returncode == 1
        assert f"process {1 - last} ends: nothing was heard of process {last} for 1.5 s" in errors
        assert time.monotonic() - begin < 20
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.communicate()
