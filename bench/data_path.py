# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Measures how fast batches are made, how long the start takes and how much memory the processes hold.

python -m bench.data_path --charades FOLDER
python -m bench.data_path --videos 100000 --channels 16 1024 --word-channels 32 --batches 300

The first takes the annotations of Charades-STA's training videos, the second made-up ones. Features are random, in the
sizes of CLIP and SlowFast unless `--channels` says otherwise, and packed by the code of `mesm convert-features`; files
are removed in the end. Data set, collation and loader are those of configs/mesm for Charades-STA.

For each width and each number of workers a process of its own starts while the files are not in the system's cache
("start" is the data set's, without imports; what it reads from the disk is counted), then makes batches with the files
in the cache. Memory is counted after the start and while workers run: of the main process (RSS), and of all processes
with shared pages counted once (PSS), or only with those of one process alone (private). Needs Linux.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, RandomSampler

from bench.environment import environment
from bench.packed_random_set import write_annotations, write_features
from bench.process_memory import ProcessMemory
from mesm_plugin.datasets import collate_grounding
from mesm_plugin.registry import DATASETS
from mesm_plugin.utils import write_json

BATCH_SIZE = 12
MIB = 2**20


@dataclass(frozen=True)
class Measured:
    """What one process measured; bytes and seconds.

    Attributes:
        channels: Of each file of clip features.
        feature_bytes: Size of these files and that of the words.
        videos: Items of the data set.
        workers: Of the loader; 0 makes batches in the main process.
        start_s: Until the data set could give items.
        start_read_bytes: What that took from the disk.
        start_resident: RSS of the main process then; `imports_resident` was it before.
        imports_resident: RSS after the imports.
        batches: How many were counted, all but the first and the last.
        batches_s: Of these a second.
        resident: RSS of the main process after them.
        proportional: PSS of main process and workers.
        private: Memory of main process and workers that is in one of them only.
    """

    channels: tuple[int, ...]
    feature_bytes: int
    videos: int
    workers: int
    start_s: float
    start_read_bytes: int
    imports_resident: int
    start_resident: int
    batches: int
    batches_s: float
    resident: int
    proportional: int
    private: int


def measure(config: dict[str, Any], channels: tuple[int, ...], workers: int, batches: int | None) -> Measured:
    """Starts and makes batches in this process; see the module."""
    torch.set_num_threads(1)
    files = [Path(file) for file in (*config["features"]["files"], config["text"]["file"])]
    for file in files:
        _forget_pages(file)
    before = ProcessMemory.of(os.getpid()).resident
    read, begin = _bytes_read(), time.perf_counter()
    dataset = DATASETS.build(config)
    start_s, start_read = time.perf_counter() - begin, _bytes_read() - read
    started = ProcessMemory.of(os.getpid()).resident
    for file in files:
        _read(file)
    every = -(-len(dataset) // BATCH_SIZE)
    chosen = every if batches is None else min(batches, every)
    loader = DataLoader(
        dataset,
        batch_size=BATCH_SIZE,
        sampler=RandomSampler(
            dataset,
            num_samples=min(chosen * BATCH_SIZE, len(dataset)),
            generator=torch.Generator().manual_seed(0),
        ),
        num_workers=workers,
        collate_fn=partial(collate_grounding, training=True),
        # A process that was spawned would spawn its workers, too, where Linux forks them otherwise.
        multiprocessing_context="fork" if workers else None,
    )
    made = iter(loader)
    next(made)
    # The last batch ends the workers.
    count = chosen - 2
    begin = time.perf_counter()
    for _ in islice(made, count):
        pass
    seconds = time.perf_counter() - begin
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children() if child.pid is not None)]
    memory = [ProcessMemory.of(pid) for pid in pids]
    for _ in made:
        pass
    return Measured(
        channels=channels,
        feature_bytes=sum(file.stat().st_size for file in files),
        videos=len(dataset),
        workers=workers,
        start_s=start_s,
        start_read_bytes=start_read,
        imports_resident=before,
        start_resident=started,
        batches=count,
        batches_s=count / seconds,
        resident=memory[0].resident,
        proportional=sum(process.proportional for process in memory),
        private=sum(process.private for process in memory),
    )


def report(results: Sequence[Measured], step_seconds: float | None) -> str:
    """A table, and how the batches compare with what training steps of `step_seconds` take."""
    lines = [
        f"{'channels':>12} {'features':>9} {'workers':>7} {'start':>7} {'read':>7} {'RSS at start':>15} "
        f"{'batches/s':>9} {'RSS main':>9} {'PSS all':>8} {'private':>8}"
        + ("" if step_seconds is None else "  of what steps need")
    ]
    for row in results:
        need = "" if step_seconds is None else f"  {row.batches_s * step_seconds:.1f} x {1 / step_seconds:.1f}/s"
        lines.append(
            f"{'+'.join(map(str, row.channels)):>12} {row.feature_bytes / MIB:>5.0f} MB {row.workers:>7} "
            f"{row.start_s:>5.1f} s {row.start_read_bytes / MIB:>4.0f} MB {row.imports_resident / MIB:>5.0f} + "
            f"{(row.start_resident - row.imports_resident) / MIB:>3.0f} MB {row.batches_s:>9.1f} "
            f"{row.resident / MIB:>6.0f} MB {row.proportional / MIB:>5.0f} MB {row.private / MIB:>5.0f} MB{need}"
        )
    return "\n".join(lines)


def _forget_pages(file: Path) -> None:
    """Removes a file from the system's cache."""
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read(file: Path) -> None:
    with open(file, "rb", buffering=0) as opened:
        while opened.read(16 * MIB):
            pass


def _bytes_read() -> int:
    """What this process took from disks so far."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


def _channels(text: str) -> tuple[int, ...]:
    widths = tuple(int(width) for width in text.split("+"))
    if min(widths) < 1:
        raise ValueError
    return widths


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--charades", type=Path, help="folder with the annotations of Charades-STA (docs/data.md)")
    source.add_argument("--videos", type=int, help="number of made-up videos")
    parser.add_argument("--clips", type=int, nargs=2, default=(4, 8), metavar=("FEWEST", "MOST"), help="default: 4 8")
    parser.add_argument("--queries", type=int, default=2, help="of each made-up video (default: 2)")
    parser.add_argument(
        "--channels", type=_channels, nargs="+", default=[(512, 2304)], help="of each file (default: 512+2304)"
    )
    parser.add_argument("--word-channels", type=int, default=512, help="default: 512")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="of the loader (default: 0 1 2)")
    parser.add_argument("--batches", type=int, help="how many to make (default: those of an epoch)")
    parser.add_argument("--step-seconds", type=float, help="a training step, to compare with (bench.end_to_end)")
    parser.add_argument("--folder", type=Path, help="where the files are written (default: that of the system)")
    parser.add_argument("--json", type=Path, help="file to write the result to")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table and writes it as JSON."""
    parser = _parser()
    args = parser.parse_args(argv)
    for name, least in (("videos", 3 * BATCH_SIZE), ("queries", 1), ("word_channels", 1), ("batches", 3)):
        if (value := getattr(args, name)) is not None and value < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
    if not 1 <= args.clips[0] <= args.clips[1]:
        parser.error(f"--clips must be two numbers from 1 on, the fewest first, got {args.clips[0]} {args.clips[1]}")
    if min(args.workers) < 0:
        parser.error(f"--workers must be at least 0, got {min(args.workers)}")
    if args.step_seconds is not None and not args.step_seconds > 0:
        parser.error(f"--step-seconds must be above 0, got {args.step_seconds}")
    results = []
    for channels in args.channels:
        with tempfile.TemporaryDirectory(prefix="data_path_", dir=args.folder) as name:
            folder = Path(name)
            if args.charades is None:
                write_annotations(folder, args.videos, args.clips, args.queries)
                config = write_features(folder, folder, channels, args.word_channels)
            else:
                vocabulary = args.charades / "CLIP_tokenized_count.txt"
                config = write_features(folder, args.charades, channels, args.word_channels, vocabulary)
            os.environ["MESM_CACHE"] = str(folder / "cache")
            for workers in args.workers:
                with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                    results.append(pool.submit(measure, config, channels, workers, args.batches).result())
    print(report(results, args.step_seconds))
    if args.json:
        content = {"environment": environment(), "results": [asdict(row) for row in results]}
        write_json(args.json, content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
