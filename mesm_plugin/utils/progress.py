# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""How far a long loop is."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def track_progress(items: Sequence[T], what: str, unit: str, seconds: float = 10.0) -> Iterator[T]:
    """Yields items and shows on stderr how many are done, how many a second, and how long the rest takes.

    On a terminal that is a bar, elsewhere a line every few seconds.

    Args:
        items: What is worked on.
        what: Is done with them, such as "reading".
        unit: What they are, such as "files".
        seconds: Between two lines.
    """
    if sys.stderr.isatty():
        yield from _bar(items, what, unit)
        return
    begin = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - last >= seconds:
            rate = done / (now - begin)
            left = f"{(len(items) - done) / rate:.0f} s left" if rate else "no estimate of the time left"
            print(f"{what}: {done} of {len(items)} {unit}, {rate:.0f} a second, {left}", file=sys.stderr, flush=True)
            last = now
        yield item


def _bar(items: Sequence[T], what: str, unit: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=len(items), rate="")
        for item in items:
            yield item
            progress.advance(task)
            speed = progress.tasks[task].speed
            progress.update(task, rate="" if speed is None else f"{speed:.0f} a second,")
