# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are read safely and must fit the model exactly."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mesm_plugin.engine.safe_load import allow_checkpoint_classes
from mesm_plugin.engine.trained_model import model_in_checkpoint, model_in_memory

SHOWN = 3
OF_AUTHORS = "; mesm import-checkpoint converts files of the authors and of other grounders (docs/model_zoo.md)"
REMEDY = "Give the config that the checkpoint was trained with"


class CheckpointError(ValueError):
    """A file that is not a checkpoint, or a checkpoint of another model."""


def read_checkpoint(file: str | Path) -> dict[str, Any]:
    """Reads a checkpoint to the CPU, with torch's safe loading.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file is truncated, is no checkpoint, or holds a class that is not safe to load.
    """
    if "://" in str(file):
        raise FileNotFoundError(f"checkpoint {file} is an address; nothing is downloaded: fetch it, and name the file")
    file = Path(file)
    if not file.is_file():
        kind = "is a folder, not a checkpoint file" if file.is_dir() else "does not exist"
        raise FileNotFoundError(f"checkpoint {file} {kind}{_others_in(file if file.is_dir() else file.parent)}")
    allow_checkpoint_classes()
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise PermissionError(error.errno, "may not be read", str(file)) from error
    # Damaged pickles raise nearly everything.
    except Exception as error:
        refused = re.search(r"(?:GLOBAL|global) ([\w.]+) (?:was not an allowed global|whose module)", str(error))
        if refused:
            raise CheckpointError(
                f"checkpoint {file} holds an object of {refused[1]}, which is not among the classes of MMEngine's "
                f"checkpoints and so is not safe to load{OF_AUTHORS if refused[1] == 'argparse.Namespace' else ''}"
            ) from error
        raise CheckpointError(
            f"{file} ({file.stat().st_size} bytes) cannot be read as a checkpoint: it is truncated, or was not written "
            "by torch.save"
        ) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f"{file} holds a {type(checkpoint).__name__}, not a checkpoint (a dict with 'state_dict')"
        )
    return checkpoint


def check_resumable(checkpoint: Mapping[str, Any], file: str | Path) -> None:
    """Checks that a checkpoint holds the state of a training and not weights alone.

    Raises:
        CheckpointError: If it has no state of the optimiser, or does not say how far training was.
    """
    if "optimizer" not in checkpoint:
        raise CheckpointError(
            f"checkpoint {file} has no state of the optimiser, so that training cannot go on from it; resume from a "
            "checkpoint of an epoch, or start from these weights with --cfg-options load_from=FILE"
        )
    meta = checkpoint.get("meta")
    for key in ("epoch", "iter"):
        done = meta.get(key) if isinstance(meta, Mapping) else None
        if type(done) is not int or done < 0:
            raise CheckpointError(f"checkpoint {file}: 'meta' has no number of the {key}, expected an integer >= 0")


def latest_checkpoint(work_dir: str | Path) -> Path | None:
    """The checkpoint in a work directory that training goes on from; None if there is none.

    It is the one that the file `last_checkpoint` names, also where the directory was moved, or where that is missing or
    damaged the one that was written last.
    """
    folder = Path(work_dir)
    try:
        named = folder / Path((folder / "last_checkpoint").read_text(encoding="utf-8").strip()).name
        if named.is_file():
            return named
    # There is none, or it names nothing that a file can be called.
    except (OSError, ValueError):
        pass
    found = [path for path in folder.glob("*.pth") if re.fullmatch(r"(epoch|iter)_\d+|interrupted", path.stem)]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def check_initial_weights(node: Any) -> None:
    """Reads the files that parts of the model start from, `init_cfg` of type "Pretrained", safely before MMEngine does.

    MMEngine leaves it to an environment variable of PyTorch whether objects in them are made.

    Args:
        node: The config of a model, or a part of it.

    Raises:
        FileNotFoundError, CheckpointError: See `read_checkpoint`.
    """
    if isinstance(node, (list, tuple)):
        for value in node:
            check_initial_weights(value)
    if not isinstance(node, dict):
        return
    checkpoint = node.get("checkpoint")
    if node.get("type") == "Pretrained" and isinstance(checkpoint, str) and not re.match(r"[\w-]+:", checkpoint):
        read_checkpoint(Path(checkpoint).expanduser())
    for value in node.values():
        check_initial_weights(value)


def weights_of(checkpoint: Mapping[str, Any], file: str | Path) -> dict[str, Tensor]:
    """The weights by name, from a checkpoint of MMEngine or from a bare state dict.

    Raises:
        CheckpointError: If `checkpoint` holds something else; `file` is the name to call it by.
    """
    weights = checkpoint.get("state_dict", checkpoint)
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        keys = ", ".join(map(repr, list(checkpoint)[:8]))
        hint = OF_AUTHORS if {"model", "opt"} <= checkpoint.keys() else ""
        raise CheckpointError(f"{file} has no 'state_dict', it holds {keys}{hint}")
    for name, value in weights.items():
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise CheckpointError(f"{file}: {name!r} is sparse, quantised or without numbers, expected a dense tensor")
    return {str(name).removeprefix("module."): value for name, value in weights.items()}


def check_fit(model: nn.Module, checkpoint: Mapping[str, Any], file: str | Path) -> None:
    """Checks that a checkpoint has exactly the weights that `model` needs, and where it says so is of its classes.

    Raises:
        CheckpointError: If a weight is NaN or infinite, or else with what the checkpoint was trained for, if that is
            something else, and how many weights are missing, unexpected or of another shape, and the first of each.
    """
    needed, given = model.state_dict(), weights_of(checkpoint, file)
    broken = [name for name, value in given.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"checkpoint {file}: {_first(broken, 'weights not finite')}; training diverged, take an earlier checkpoint"
        )
    reshaped = [
        f"{name} is {tuple(given[name].shape)} in the file and {tuple(value.shape)} in the model"
        for name, value in needed.items()
        if name in given and given[name].shape != value.shape
    ]
    problems = [
        _counted(needed.keys() - given.keys(), list(needed), "missing"),
        _counted(given.keys() - needed.keys(), list(given), "unexpected"),
        _first(reshaped, "of another shape"),
    ]
    found = "; ".join(problem for problem in problems if problem)
    trained, built = model_in_checkpoint(checkpoint), model_in_memory(model)
    if trained is not None and trained.is_other_than(built):
        same = "its weights have the names and shapes that are needed, but mean something else"
        raise CheckpointError(
            f"checkpoint {file} was trained for {trained}, but this config builds {built}: {found or same}. {REMEDY}"
        )
    if found:
        unknown = "" if trained is not None else "; the file does not say what it was trained for"
        raise CheckpointError(
            f"checkpoint {file} does not fit the model {built} of this config ({len(needed)} weights): {found}"
            f"{unknown}. {REMEDY}"
        )


def _counted(names: set[str], order: list[str], what: str) -> str:
    return _first([name for name in order if name in names], what)


def _first(names: list[str], what: str) -> str:
    if not names:
        return ""
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {what} ({', '.join(names[:SHOWN])}{rest})"


def _others_in(folder: Path) -> str:
    names = sorted(path.name for path in folder.glob("*.pth"))
    return f"; {folder} has {', '.join(names)}" if names else ""
