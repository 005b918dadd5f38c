# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Ends a process of a run of several when another one is no longer heard of."""

import contextlib
import os
import sys
import time
from threading import Event, Thread
from types import TracebackType

import torch.distributed as dist

INTERVAL = 2.0
LIMIT = 40.0
TO_END = 5.0
"""Seconds that the threads have at the end."""


class Heartbeat:
    """Counts up in a store that the first process holds, and ends this process when the count of another stands still.

    A process that dies closes its connections, which the others notice in their next collective. One that is stopped,
    or whose machine is lost, does not, and they would wait for it for half an hour. A slow one, which reads or scores
    for long, counts on, as it does so in a thread.

    Use it as a context manager, which ends it; `start` after the processes have joined.

    Args:
        limit: Seconds of silence after which this process ends.
        interval: Seconds between two counts.
    """

    def __init__(self, limit: float = LIMIT, interval: float = INTERVAL) -> None:
        self.limit = limit
        self.interval = interval
        self._ended = Event()
        self._store: dist.TCPStore | None = None
        self._heard: dict[int, float] = {}
        self._threads: list[Thread] = []

    def __enter__(self) -> "Heartbeat":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._store is not None:
            # Without the first process there is nobody left to tell.
            with contextlib.suppress(RuntimeError):
                self._store.add(f"left{dist.get_rank()}", 1)
        self._ended.set()
        for thread in self._threads:
            # One that is in C++ when Python ends can abort the process.
            thread.join(TO_END)

    def start(self) -> None:
        """Starts; has to be called in all processes, and does nothing if there is but one."""
        if (
            not dist.is_available()
            or not dist.is_initialized()
            or dist.get_world_size() == 1
            or self._store is not None
            # A group that met by a file or a store of its own has no address.
            or "MASTER_ADDR" not in os.environ
        ):
            return
        host, first = os.environ["MASTER_ADDR"], dist.get_rank() == 0
        store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False) if first else None
        port = [store.port if store is not None else 0]
        dist.broadcast_object_list(port)
        self._store = store or dist.TCPStore(host, port[0], is_master=False, wait_for_workers=False)
        now = time.monotonic()
        self._heard = dict.fromkeys(range(dist.get_world_size()), now)
        for target in (self._count, self._watch):
            self._threads.append(Thread(target=target, args=(dist.get_rank(),), daemon=True))
            self._threads[-1].start()

    def _count(self, own: int) -> None:
        assert self._store is not None
        counts = dict.fromkeys(self._heard, -1)
        while not self._ended.wait(self.interval):
            try:
                self._store.add(f"count{own}", 1)
                for rank in counts:
                    count = self._store.add(f"count{rank}", 0)
                    if count != counts[rank] or self._store.add(f"left{rank}", 0):
                        counts[rank], self._heard[rank] = count, time.monotonic()
            except RuntimeError:
                # The first process has ended, or its machine is lost: then none is heard of any more.
                return

    def _watch(self, own: int) -> None:
        before = time.monotonic()
        while not self._ended.wait(self.interval):
            now = time.monotonic()
            if now - before > 3 * self.interval:
                # This process was stopped itself, perhaps with all the others.
                self._heard = dict.fromkeys(self._heard, now)
            before = now
            silent = [rank for rank, heard in self._heard.items() if now - heard > self.limit]
            if silent:
                # While the first process is silent, none can be heard of.
                names = ", ".join(map(str, silent)) if 0 not in silent else "0"
                print(
                    f"mesm: process {own} ends: nothing was heard of process {names} for {self.limit:g} s; start all "
                    "anew with --resume",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(1)
