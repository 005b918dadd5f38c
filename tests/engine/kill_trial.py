# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Kills a small training again and again, and compares what comes out with a training that was left alone.

python -m tests.engine.kill_trial --kills 50

Each process is killed with SIGKILL: half of them after a random time, half of them as soon as it writes a checkpoint.
The next goes on with `--resume`. All losses and the last weights have to be the same, bit for bit.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch

from mesm_plugin.engine.config_loading import read_config
from mesm_plugin.engine.train_and_test import train
from mesm_plugin.utils import end_process

DATA = ("train", "val", "test")
OPTIONS = [
    "model.dims=16",
    "model.heads=2",
    "model.ffn_dims=16",
    "model.video_dims=10",
    "model.text_dims=8",
    "model.aligner.frame_word.token_dims=8",
    *[f"{split}_dataloader.dataset.num_videos={count}" for split, count in zip(DATA, (12, 3, 3), strict=True)],
    *[f"{split}_dataloader.dataset.{kind}_dim=8" for split in DATA for kind in ("feature", "word")],
    "train_dataloader.batch_size=2",
    "train_cfg.max_epochs=5",
    "default_hooks.logger.interval=1",
    "custom_hooks.0.videos=0",
]


def start(work_dir: Path) -> int:
    """Forks a process that trains in `work_dir`, going on from what is there; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        torch.set_num_threads(1)
        with open(work_dir.with_suffix(".log"), "a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        config = read_config("mesm_synthetic", [*OPTIONS, f"work_dir={work_dir}"])
        config.resume = True
        train(config)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        end_process(code)


def finish(work_dir: Path) -> None:
    """Trains to the end."""
    _, status = os.waitpid(start(work_dir), 0)
    if status:
        raise RuntimeError(f"training failed:\n{work_dir.with_suffix('.log').read_text()[-3000:]}")


def kill(work_dir: Path, delay: float, writing: bool) -> int | None:
    """Starts training and kills it after `delay` seconds, or, with `writing`, at the next checkpoint after them.

    Returns:
        How many files the process left unfinished; None if it came to its end.
    """
    pid, begin = start(work_dir), time.monotonic()
    while True:
        waited = time.monotonic() - begin > delay
        if waited and (not writing or _unfinished(work_dir, pid)):
            os.kill(pid, signal.SIGKILL)
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        time.sleep(0.0002)
    if os.WIFSIGNALED(status):
        return len(_unfinished(work_dir, pid))
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"training failed:\n{work_dir.with_suffix('.log').read_text()[-3000:]}")
    return None


def losses(work_dir: Path) -> dict[int, list[dict[str, float]]]:
    """What was logged of each step, by each process that got so far."""
    found: dict[int, list[dict[str, float]]] = {}
    for file in work_dir.glob("*/vis_data/scalars.json"):
        for line in file.read_text().splitlines():
            if not line.endswith("}"):
                continue  # The process was killed while it wrote the line.
            record = json.loads(line)
            if "loss" in record:
                values = {key: value for key, value in record.items() if "loss" in key or key == "grad_norm"}
                found.setdefault(record["step"], []).append(values)
    return found


def weights(work_dir: Path) -> dict[str, torch.Tensor]:
    """Those that training ended with."""
    return torch.load(work_dir / "epoch_5.pth", weights_only=False)["state_dict"]


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _unfinished(work_dir: Path, pid: int) -> list[str]:
    """What this process is writing, or was; an earlier one may have left files as well."""
    return [name for name in _names(work_dir) if name.endswith(f".{pid}.tmp")]


def trial(folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Counts of a trial.

    Raises:
        AssertionError: A loss or a weight differs.
    """
    rng = random.Random(seed)
    alone = folder / "alone"
    begin = time.monotonic()
    finish(alone)
    duration = time.monotonic() - begin
    expected_losses, expected_weights = losses(alone), weights(alone)
    counts = {"kills": 0, "unfinished": 0, "runs": 0, "compared": 0}
    while counts["kills"] < kills:
        counts["runs"] += 1
        work_dir = folder / f"killed{counts['runs']}"
        while counts["kills"] < kills:
            unfinished = kill(work_dir, rng.uniform(0, 0.7 * duration), writing=counts["kills"] % 2 == 1)
            if unfinished is None:
                break
            counts["kills"] += 1
            counts["unfinished"] += unfinished > 0
        finish(work_dir)
        for step, logged in losses(work_dir).items():
            for values in logged:
                assert values == expected_losses[step][0], f"step {step}: {values} is not {expected_losses[step][0]}"
                counts["compared"] += 1
        for name, value in weights(work_dir).items():
            assert torch.equal(value, expected_weights[name]), f"{name} differs"
        left = [name for name in _names(work_dir) if name.endswith((".pth", ".tmp"))]
        # A process that is killed after its last checkpoint may not have removed the one before.
        checkpoints = [name for name in left if name.endswith(".pth") and not name.startswith("best")]
        assert 1 <= len(checkpoints) <= 2, f"{left} were left"
        assert not any(name.endswith(".tmp") for name in left), f"{left} were left"
    return counts


def main() -> int:
    """Runs a trial."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        counts = trial(Path(folder), args.kills, args.seed)
    print(", ".join(f"{name} {count}" for name, count in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
