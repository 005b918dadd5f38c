# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Turns a checkpoint file of a grounder's authors into a checkpoint and a config of this package."""

from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config

from mesm_plugin.converters.author_file import read_author_file
from mesm_plugin.converters.find_peer import Converted, find_peer
from mesm_plugin.converters.imported_config import ImportedConfig, default_data_folder, imported_config
from mesm_plugin.converters.peer import save_converted
from mesm_plugin.engine.checkpoint import check_fit
from mesm_plugin.engine.config_checking import check_config
from mesm_plugin.registry import MODELS
from mesm_plugin.utils import atomic_file


@dataclass
class Imported:
    """What was written, and from what."""

    checkpoint: Path
    config: Path
    converted: Converted
    written: ImportedConfig


def import_checkpoint(
    file: str | Path,
    out: str | Path | None = None,
    config: str | Path | None = None,
    *,
    peer: str | None = None,
    options: str | Path | None = None,
    force: bool = False,
) -> Imported:
    """Writes a checkpoint and the config that it runs with, from a checkpoint file of a grounder's authors.

    Nothing that is pickled in the file is run. Both files appear whole or not at all.

    Args:
        file: A file of MESM's, CG-DETR's, EaTR's, Moment-DETR's, QD-DETR's, TR-DETR's or UVCOM's authors, or of
            Lighthouse.
        out: Checkpoint to write; `file` with the ending .pth if None.
        config: Config to write; `out` with the ending .py if None.
        peer: Key in `PEERS`; None finds the one that fits.
        options: Training options as JSON, for a file without them.
        force: Replaces files that are there.

    Raises:
        FileNotFoundError: `file` or `options` do not exist.
        FileExistsError: `out` or `config` exist, and `force` is not given.
        ValueError: The file is not of a known code, or its options or parameters cannot be used.
    """
    source = Path(file)
    checkpoint = Path(out) if out is not None else source.with_suffix(".pth")
    script = Path(config) if config is not None else checkpoint.with_suffix(".py")
    _check_targets(source, checkpoint, script, force)
    state_dict, opts = read_author_file(source, options)
    try:
        converted = find_peer(state_dict, opts, peer)
        written = imported_config(converted, opts, source.name)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    _check_config(written, converted, source)
    with atomic_file(checkpoint) as unfinished, atomic_file(script) as unfinished_script:
        save_converted(converted.state_dict, converted.model, unfinished)
        unfinished_script.write_text(written.text, encoding="utf-8")
    return Imported(checkpoint, script, converted, written)


def _check_targets(source: Path, checkpoint: Path, script: Path, force: bool) -> None:
    if script.suffix != ".py":
        raise ValueError(f"the config {script} must end in .py")
    if checkpoint.suffix == ".py":
        raise ValueError(f"the checkpoint {checkpoint} must end in another way than a config, such as in .pth")
    for target in (checkpoint, script):
        if target.is_dir():
            raise ValueError(f"{target} is a folder, expected a file to write")
        if target.resolve() == source.resolve():
            raise ValueError(f"{target} is the file to import itself; name another with --out")
        if target.exists() and not force:
            raise FileExistsError(f"{target} exists; name another file, or replace it with --force")


def _check_config(written: ImportedConfig, converted: Converted, source: Path) -> None:
    """Reads the config as a command would, and checks that the checkpoint fits what it builds."""
    with default_data_folder():
        config = Config.fromstring(written.text, ".py")
    check_config(config)
    with torch.device("meta"):
        model = MODELS.build(config.model)
    check_fit(model, {"state_dict": converted.state_dict}, source)
