# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The config of docs/other_codebases.md trains with the tools of a codebase whose scope is `mmaction`."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
VIDEOS = [f"V{i:04d}" for i in range(12)]
WORDS = ["person", "opens", "the", "door", "sits", "down"]
SMALL = ["model.dims=16", "model.heads=2", "model.ffn_dims=16", "train_cfg.max_epochs=1"]
SMALL += [
    f"{split}_dataloader.{key}" for split in ("train", "val") for key in ("num_workers=0", "persistent_workers=0")
]
SMALL += ["test_dataloader.num_workers=0", "train_dataloader.dataset.holdout_fraction=0.4"]
SMALL += ["val_dataloader.dataset.holdout_fraction=0.4", "train_dataloader.batch_size=4"]

# What matters of MMAction2: nodes with its scope, a data set called like ours, functions in a module that is not there.
REGISTRY = """
from mmengine import registry as root
from mmengine.registry import Registry

for name in ("DATASETS", "DATA_SAMPLERS", "EVALUATOR", "HOOKS", "LOG_PROCESSORS", "LOOPS", "METRICS", "MODELS",
             "MODEL_WRAPPERS", "OPTIMIZERS", "OPTIM_WRAPPERS", "OPTIM_WRAPPER_CONSTRUCTORS", "PARAM_SCHEDULERS",
             "RUNNERS", "RUNNER_CONSTRUCTORS", "TASK_UTILS", "TRANSFORMS", "VISBACKENDS", "VISUALIZERS",
             "WEIGHT_INITIALIZERS"):
    parent = getattr(root, name)
    globals()[name] = Registry(parent.name, parent=parent, scope="mmaction")
FUNCTION = Registry("function", parent=root.FUNCTIONS, scope="mmaction", locations=["mmaction.mmengine"])

@DATASETS.register_module()
class CharadesSTADataset:
    pass
"""
TRAIN = """
import argparse
from mmengine.config import Config, DictAction
from mmengine.runner import Runner
from mmaction.registry import MODELS

parser = argparse.ArgumentParser()
parser.add_argument("config")
parser.add_argument("--work-dir")
parser.add_argument("--resume", action="store_true")
parser.add_argument("--cfg-options", nargs="+", action=DictAction)
args = parser.parse_args()
config = Config.fromfile(args.config)
config.work_dir, config.launcher, config.resume = args.work_dir, "none", args.resume
config.merge_from_dict(args.cfg_options)
Runner.from_cfg(config).train()
"""
RUNTIME = """
default_scope = "mmaction"
default_hooks = dict(checkpoint=dict(type="CheckpointHook", interval=1), logger=dict(type="LoggerHook", interval=1))
"""
RunTools = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder of Charades-STA as MMAction2's README lays it out, with word vectors beside it, in `tmp_path`."""
    folder = tmp_path / "data" / "CharadesSTA"
    features = folder / "C3D_unit16_overlap0.5_merged"
    features.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    lines = []
    for i, vid in enumerate(VIDEOS):
        torch.save(torch.randn(9 + i, 4096, generator=generator), features / f"{vid}.pt")
        lines += [f"{vid} 1.0 {4.0 + i}##person opens the door.\n", f"{vid} 0.0 2.5##person sits down.\n"]
    for split in ("train", "test"):
        (folder / f"Charades_sta_{split}.txt").write_text("".join(lines))
    (folder / "Charades_duration.json").write_text(json.dumps(dict.fromkeys(VIDEOS, 20.5)))
    rng = np.random.default_rng(0)
    vectors = [f"{word} {' '.join(f'{x:.3f}' for x in rng.standard_normal(300))}\n" for word in WORDS]
    (folder / "glove.6B.300d.txt").write_text("".join(vectors))
    (folder / "GloVe_tokenized_count.txt").write_text("".join(f"{word} {i} 24\n" for i, word in enumerate(WORDS)))
    return folder


def write_config(codebase: Path, data: Path) -> Path:
    """Saves the page's config where it says, with the path of the data."""
    page = (ROOT / "docs" / "other_codebases.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```python\n(_base_ = .*?)```", page, re.DOTALL)
    assert "data/CharadesSTA/" in text
    path = codebase / "configs" / "localization" / "qd_detr_mesm.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace("data/CharadesSTA/", f"{data}/"))
    return path


def run(codebase: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(codebase), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, "-W", "ignore", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def child_codebase(tmp_path: Path) -> Path:
    """A codebase with MMAction2's scope and little else."""
    files = {"mmaction/__init__.py": "", "mmaction/registry.py": REGISTRY, "tools/train.py": TRAIN}
    for name, text in {**files, "configs/_base_/default_runtime.py": RUNTIME}.items():
        path = tmp_path / "codebase" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "codebase"


def trains_and_resumes(codebase: Path, train: Path, config: Path, work_dir: Path) -> None:
    arguments = [train, config, "--work-dir", work_dir]
    first = run(codebase, *arguments, "--cfg-options", *SMALL)
    assert first.returncode == 0, first.stderr[-2000:]
    log = first.stdout + first.stderr
    assert "loss_contrastive" in log
    assert "loss_masked_word" in log
    assert re.search(r"Epoch\(val\) \[1\].* mAP: \d", log)
    assert list(work_dir.glob("best_mAP_epoch_*.pth"))
    last = run(codebase, *arguments, "--resume", "--cfg-options", *SMALL, "train_cfg.max_epochs=2")
    assert last.returncode == 0, last.stderr[-2000:]
    assert "resumed epoch: 1" in last.stdout + last.stderr


def test_with_a_child_registry_of_that_scope(child_codebase: Path, data: Path, tmp_path: Path) -> None:
    config = write_config(child_codebase, data)
    trains_and_resumes(child_codebase, child_codebase / "tools" / "train.py", config, tmp_path / "run")


def test_with_mmaction2(data: Path, tmp_path: Path) -> None:
    if find_spec("mmaction") is None:
        pytest.skip("MMAction2 is not installed")
    package = Path(str(find_spec("mmaction").origin)).parent  # type: ignore[union-attr]
    folders = [folder for folder in (package.parent, package / ".mim") if (folder / "tools" / "train.py").is_file()]
    if not folders or not (package / "models" / "localizers" / "drn").is_dir():
        pytest.skip("MMAction2 is installed without its tools or without its grounding model; its source has both")
    codebase = tmp_path / "mmaction2"
    (codebase / "configs").mkdir(parents=True)
    (codebase / "configs" / "_base_").symlink_to(folders[0] / "configs" / "_base_")
    config = write_config(codebase, data)
    trains_and_resumes(package.parent, folders[0] / "tools" / "train.py", config, tmp_path / "run")
