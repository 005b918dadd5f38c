# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Reads the checkpoint files of grounders' authors, and says what a file is that is none."""

import argparse
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mesm_plugin.engine.safe_load import allow_checkpoint_classes
from mesm_plugin.utils import read_json
from mesm_plugin.utils.zip_archive import is_zip

# The classes of options in checkpoints; torch fills an OrderedDict in place of the easydict package's class.
_OPTION_CLASSES: list[Any] = [argparse.Namespace, (OrderedDict, "easydict.EasyDict")]
_OTHER_FORMATS = (
    (
        b"version https://git-lfs",
        "is a Git LFS pointer, which stands for a file that was not fetched: run git lfs pull",
    ),
    (b"<", "is a web page or XML, not the file that its link leads to: download it again, in a browser if need be"),
    (b"\x1f\x8b", "is a gzip archive: unpack it first"),
    (b"Rar!", "is a RAR archive: unpack it first"),
    (b"7z\xbc\xaf", "is a 7z archive: unpack it first"),
    (b"\x89HDF", "is an HDF5 file, which holds features, not a checkpoint"),
    (b"{", "is text, such as options in JSON, not a checkpoint"),
)
_EXPECTED = 'expected a dict of "model" (a state dict) and "opt" (the training options), as the authors\' code saves it'


def read_author_file(
    file: str | Path, options_file: str | Path | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads a checkpoint file of a grounder's authors without running any code that is in it.

    Args:
        file: A file with the keys "model" and "opt", or a bare state dict if `options_file` is given.
        options_file: The options as JSON, which the authors' runs save beside the checkpoint as `opt.json`; they take
            the place of those in `file`.

    Returns:
        The state dict and the options, both under the authors' names.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no such checkpoint; the message says what it is instead.
    """
    checkpoint = _load(Path(file))
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"{file} is not a checkpoint: it holds a {type(checkpoint).__name__}; {_EXPECTED}")
    weights = checkpoint.get("model")
    if weights is None:
        weights = _bare_state_dict(checkpoint, file, options_file is not None)
    elif options_file is None and "opt" not in checkpoint:
        raise ValueError(f"{file} has no training options ('opt'). {_GIVE_OPTIONS}")
    options = checkpoint.get("opt") if options_file is None else _read_options(Path(options_file))
    options = vars(options) if isinstance(options, argparse.Namespace) else options
    if not isinstance(options, Mapping):
        raise ValueError(f"{file}: 'opt' is a {type(options).__name__}, expected options by name. {_GIVE_OPTIONS}")
    return _checked_weights(weights, file), {str(name): value for name, value in options.items()}


_GIVE_OPTIONS = "Give them with --options opt.json, a file that the authors' training saves beside its checkpoints"


def _load(file: Path) -> Any:
    if file.is_dir():
        raise ValueError(f"{file} is a folder, expected a checkpoint file of a grounder's authors")
    if not file.is_file():
        raise FileNotFoundError(f"checkpoint {file} does not exist")
    other = _other_format(file)
    if other is not None:
        raise ValueError(f"{file} is not a checkpoint: it {other}")
    allow_checkpoint_classes()
    try:
        with torch.serialization.safe_globals(_OPTION_CLASSES):
            return torch.load(file, map_location="cpu", weights_only=True)
    # Damaged pickles raise nearly everything.
    except Exception as error:
        refused = re.search(r"(?:GLOBAL|global) ([\w.]+) (?:was not an allowed global|whose module)", str(error))
        if refused:
            raise ValueError(
                f"{file} is not a checkpoint that is safe to load: it holds an object of {refused[1]}, and nothing of "
                "it was run"
            ) from error
        raise ValueError(
            f"{file} ({file.stat().st_size} bytes) is not a checkpoint, or a damaged one: it is truncated, or was not "
            "written by torch.save"
        ) from error


def _other_format(file: Path) -> str | None:
    with file.open("rb") as content:
        start = content.read(64)
    if not start:
        return "is empty"
    for beginning, what in _OTHER_FORMATS:
        if start.lstrip().startswith(beginning):
            return what
    if not is_zip(file):
        return "is a truncated zip archive: download or copy it again" if start.startswith(b"PK\x03\x04") else None
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    # Damaged directories of archives raise nearly everything.
    except Exception:
        return "is a damaged zip archive: download or copy it again"
    if any(name.endswith("constants.pkl") for name in names):
        return "is a TorchScript program, which holds code and no training options; give the checkpoint of the training"
    if not any(name.endswith("data.pkl") for name in names):
        return f"is a zip archive (of {', '.join(names[:3]) or 'nothing'}): unpack it first"
    return None


def _bare_state_dict(checkpoint: Mapping[Any, Any], file: str | Path, has_options: bool) -> Mapping[Any, Any]:
    keys = ", ".join(map(repr, list(checkpoint)[:6])) or "nothing"
    if "state_dict" in checkpoint:
        if "meta" in checkpoint or "message_hub" in checkpoint:
            raise ValueError(f"{file} is a checkpoint of this package or of MMEngine already: use it as it is")
        raise ValueError(f"{file} holds {keys}, which is another code's layout; {_EXPECTED}")
    if not checkpoint or not all(isinstance(value, Tensor) for value in checkpoint.values()):
        raise ValueError(f"{file} is not a checkpoint of a grounder's authors: it holds {keys}; {_EXPECTED}")
    if not has_options:
        raise ValueError(f"{file} is a bare state dict, without the training options. {_GIVE_OPTIONS}")
    return checkpoint


def _read_options(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"options {file} do not exist, expected a JSON file such as opt.json")
    options = read_json(file, "name the options that the authors' training wrote, such as opt.json")
    if not isinstance(options, dict):
        raise ValueError(f"options {file} hold a {type(options).__name__}, expected an object of options by name")
    return options


def _checked_weights(weights: Any, file: str | Path) -> dict[str, Tensor]:
    if not isinstance(weights, Mapping) or not weights:
        raise ValueError(
            f"{file}: 'model' is {'empty' if weights == {} else f'a {type(weights).__name__}'}; {_EXPECTED}"
        )
    checked = {}
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{file}: 'model' has {name!r}, a {type(value).__name__}, expected tensors by name")
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise ValueError(
                f"{file}: parameter {name!r} is sparse, quantised or without numbers, expected a dense tensor"
            )
        checked[name.removeprefix("module.")] = value
    return checked
