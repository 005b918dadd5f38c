# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What one has to know to repeat a run."""

import hashlib
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mmengine.config import Config

import mesm_plugin

PACKAGES = ("mesm_plugin", "torch", "mmengine", "numpy", "scipy", "h5py", "triton", "transformers")
# Features are too large to be hashed at each start; their sizes tell most mistakes.
LARGEST_HASHED = 100 * 2**20


def run_record(config: Config, seed: int | None, world_size: int) -> dict[str, Any]:
    """Describes a run.

    Args:
        config: What is run.
        seed: Of everything random.
        world_size: Number of processes.

    Returns:
        `command`, `folder`, `config`, `settings`, `seed`, `processes`, `python`, `platform`, `versions`, `revision`
        of the package's git checkout (None if it is installed otherwise) and `data`: for each file that a data set of
        the config names its size in bytes and, up to 100 MiB, its SHA-256; for a folder the number of files.
    """
    return {
        "command": sys.argv,
        "folder": str(Path.cwd()),
        "config": str(config.filename),
        "settings": config.to_dict(),
        "seed": seed,
        "processes": world_size,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: found for name in PACKAGES if (found := _version(name)) is not None},
        "revision": _revision(),
        "data": {str(path): _described(path) for path in sorted(_data_files(config))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _revision() -> str | None:
    """The commit, with "-dirty" behind it if files were changed."""
    root = Path(str(mesm_plugin.__file__)).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _data_files(config: Config) -> set[Path]:
    loaders = [config.get(f"{split}_dataloader") for split in ("train", "val", "test")]
    strings = {text for loader in loaders if loader for text in _strings(loader.dataset)}
    return {path for text in strings if len(text) < 4096 and (path := Path(text)).exists() and text not in ("", ".")}


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        root = value.get("data_root")
        for item in value.values():
            for text in _strings(item):
                yield text
                if isinstance(root, str) and text != root:
                    yield str(Path(root) / text)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)


def _described(path: Path) -> dict[str, Any]:
    if path.is_dir():
        return {"files": sum(1 for _ in path.iterdir())}
    size = path.stat().st_size
    record: dict[str, Any] = {"bytes": size}
    if size <= LARGEST_HASHED:
        record["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return record
