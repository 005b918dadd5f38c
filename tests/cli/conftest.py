# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A tiny run of the quick start, trained once."""

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from mesm_plugin.cli.main import main

DATA = ("train", "val", "test")
SMALL = [
    "model.dims=16",
    "model.heads=2",
    "model.ffn_dims=16",
    "model.video_dims=10",
    "model.text_dims=8",
    "model.aligner.frame_word.token_dims=8",
    *[f"{split}_dataloader.dataset.num_videos={count}" for split, count in zip(DATA, (6, 3, 3), strict=True)],
    *[f"{split}_dataloader.dataset.{kind}_dim=8" for split in DATA for kind in ("feature", "word")],
    "train_dataloader.batch_size=3",
    "train_cfg.max_epochs=2",
]


@dataclass
class Output:
    """What a command returned and printed."""

    code: int
    out: str
    err: str

    @property
    def scores(self) -> dict[str, float]:
        """The lines "NAME VALUE" of the score table."""
        return {name: float(value) for name, value in re.findall(r"^(\S+@?\S*) (\d+\.\d)$", self.out, re.MULTILINE)}


def mesm(*arguments) -> Output:
    """Runs a command in this process."""
    # MMEngine names what is global to a run by the second it starts in.
    for kind in (DefaultScope, MessageHub, MMLogger, Visualizer):
        kind._instance_dict.clear()
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Output(code, out.getvalue(), err.getvalue())


@dataclass
class Run:
    """A finished training."""

    work_dir: Path
    output: Output

    @property
    def best(self) -> Path:
        """The best checkpoint."""
        return next(self.work_dir.glob("best_*.pth"))


@pytest.fixture(scope="session")
def command():
    """Runs `mesm` with the given arguments."""
    return mesm


@pytest.fixture(scope="session")
def small():
    """Options that make the quick start tiny."""
    return SMALL


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Run:
    """Two epochs."""
    work_dir = tmp_path_factory.mktemp("run")
    output = mesm("train", "mesm_synthetic", "--work-dir", work_dir, "--seed", 1, "--cfg-options", *SMALL)
    return Run(work_dir, output)
