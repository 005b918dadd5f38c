# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Configs by path or by the name of one that is shipped."""

import difflib
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import yaml
from mmengine.config import Config, DictAction
from mmengine.fileio.handlers import yaml_handler


class ConfigError(ValueError):
    """A config that cannot be read, or that holds a key which nothing reads."""


def shipped_configs() -> dict[str, Path]:
    """The configs inside the installed package, by name without ending; parts that others inherit are left out."""
    root = Path(next(iter(import_module("mesm_plugin.configs").__path__)))
    paths = [path.relative_to(root) for path in sorted(root.rglob("*.py"))]
    return {path.stem: root / path for path in paths if not any(part.startswith("_") for part in path.parts)}


def find_config(name: str) -> Path:
    """The file of a config.

    Args:
        name: Path of a config file, or the name of a shipped one, with or without `.py`.

    Raises:
        FileNotFoundError: If it is neither; near names are listed.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_configs()
    stem = path.name.removesuffix(".py")
    if stem in shipped:
        return shipped[stem]
    near = difflib.get_close_matches(stem, shipped, n=5, cutoff=0.4)
    known = f"did you mean {', '.join(near)}?" if near else f"the shipped ones are {', '.join(shipped)}"
    raise FileNotFoundError(f"config {name} is neither a file nor the name of a shipped config; {known}")


def read_config(name: str, options: Iterable[str] = ()) -> Config:
    """Reads a config and merges options of the command line into it.

    Args:
        name: Path or shipped name, see `find_config`.
        options: Each `key=value`, with dots for nested keys, as MMEngine's `--cfg-options`.

    Raises:
        FileNotFoundError: If there is no such config.
        ConfigError: If the file is not a valid config or an option has no `=`.
    """
    path = find_config(name)
    try:
        with _plain_yaml(), _empty_as_unset():
            config = Config.fromfile(path)
    except Exception as error:
        cause = error.__cause__ if isinstance(error, ImportError) and error.__cause__ else error
        raise ConfigError(f"config {path}: {type(cause).__name__}: {cause}") from error
    merge_options(config, options)
    return config


@contextmanager
def _plain_yaml() -> Iterator[None]:
    """MMEngine's loader of YAML would make any object, and call any function, that a file names."""
    loader = yaml_handler.Loader
    yaml_handler.Loader = yaml.SafeLoader
    try:
        yield
    finally:
        yaml_handler.Loader = loader


@contextmanager
def _empty_as_unset() -> Iterator[None]:
    """MMEngine refuses a variable that is empty, even where the config gives a default."""
    empty = [name for name, value in os.environ.items() if name.startswith("MESM_") and not value]
    for name in empty:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(dict.fromkeys(empty, ""))


def merge_options(config: Config, options: Iterable[str]) -> None:
    """Merges `key=value` options into `config`, in place.

    Raises:
        ConfigError: If an option has no `=`, or sets a part of something that has no parts.
    """
    parsed = Namespace(values={})
    for option in options:
        if not option.partition("=")[0] or "=" not in option:
            raise ConfigError(f"option {option!r} is not of the form key=value")
        try:
            DictAction([], "values")(ArgumentParser(), parsed, [option])
            config.merge_from_dict(parsed.values)
        except (KeyError, TypeError, AssertionError) as error:
            raise ConfigError(f"option {option!r}: {error.args[0]}") from error
