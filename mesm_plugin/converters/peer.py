# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What the converters of all peers share: renaming of parameters, reading and writing of checkpoint files."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mesm_plugin.converters.author_file import read_author_file
from mesm_plugin.utils import atomic_file


class Options(dict[str, Any]):
    """A peer's options, whose absence has a message; those taken by `[]` are numbers or yes and no.

    Args:
        options: Options by name.
        code: Whose options they are, for messages.
    """

    def __init__(self, options: Mapping[str, Any], code: str) -> None:
        super().__init__(options)
        self.code = code

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
            raise ValueError(f"option {key}={value!r} of {self.code}: expected a number or a truth value")
        return value

    def __missing__(self, key: str) -> Any:
        raise ValueError(f"the options lack {key!r}, which the training options of {self.code} have")

    def require(self, **values: Any) -> None:
        """Checks options that only one value of is supported; those that are missing have that value.

        Raises:
            ValueError: An option has another value.
        """
        for key, value in values.items():
            if self.get(key, value) != value:
                raise ValueError(f"option {key}={self.get(key)!r} of {self.code}: only {value!r} is supported")


@dataclass(frozen=True)
class Peer:
    """Reads the checkpoints of one code base.

    Attributes:
        code: Name of the code, for messages.
        names: Our name by the peer's, for a whole name or the part of it before a dot. `*` in the peer's stands for
            an index i; ours has `[i]` where it stays as it is, `[2i]` or `[4i+2]` where a sequence has other modules
            between.
        model_config: Config of the model, from the peer's options and state dict.
        without_effect: Beginnings of the names of parameters that take part in nothing, given the options.
        without_ones: Beginnings of the names of parameters whose dimensions of size 1 are left out here.
    """

    code: str
    names: Mapping[str, str]
    model_config: Callable[[Options, Mapping[str, Tensor]], dict[str, Any]]
    without_effect: Callable[[Options], tuple[str, ...]]
    without_ones: tuple[str, ...] = ()

    def config(self, options: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        """Translates the peer's options into a config for `MODELS.build`.

        Args:
            options: Options by the peer's names (`opt` of a checkpoint).
            state_dict: Parameters under the peer's names; the widths of the features are read off them.

        Raises:
            ValueError: An option or a parameter is missing, or an option has a value that is not supported.
        """
        try:
            return self.model_config(Options(options, self.code), state_dict)
        except KeyError as error:
            raise ValueError(f"parameter {error} of {self.code} is missing") from error
        except TypeError as error:
            raise ValueError(f"a parameter that tells a width of {self.code} is a single number") from error

    def parameter_names(self, names: list[str], options: Mapping[str, Any]) -> dict[str, str]:
        """Maps the peer's parameter names to ours.

        Args:
            names: Keys of a state dict of the peer.
            options: The peer's options, which tell which parts are in use.

        Returns:
            Our name by the peer's, for the parameters that the model with these options uses.

        Raises:
            ValueError: Names that the peer does not have.
        """
        unused = self.without_effect(Options(options, self.code))
        ours = {name: rename(name, self.names) for name in names if not name.startswith(unused)}
        unknown = [name for name, renamed in ours.items() if renamed is None]
        if unknown:
            raise ValueError(
                f"{len(unknown)} of {len(names)} parameters are not those of {self.code}, for instance {unknown[:3]}"
            )
        return {name: renamed for name, renamed in ours.items() if renamed is not None}

    def convert_state_dict(self, state_dict: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
        """Gives the parameters of a peer's state dict our names.

        Raises:
            ValueError: See `parameter_names`.
        """
        names = self.parameter_names(list(state_dict), options)
        return {
            ours: state_dict[theirs].squeeze() if theirs.startswith(self.without_ones) else state_dict[theirs]
            for theirs, ours in names.items()
        }

    def convert_checkpoint(self, source: str | Path, target: str | Path) -> dict[str, Any]:
        """Turns a checkpoint file of the authors into one that `mesm test`, `mesm predict` and `load_from` take.

        Args:
            source: A checkpoint file of the authors.
            target: File to write; it is replaced only when the new one is complete.

        Returns:
            The config of the model that the checkpoint belongs to, widths as the parameters have them.

        Raises:
            ValueError: The file is no such checkpoint, or has parameters that the peer does not have.
        """
        state_dict, options = read_author_file(source)
        try:
            config = self.config(options, state_dict)
            converted = self.convert_state_dict(state_dict, options)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error
        with atomic_file(target) as unfinished:
            save_converted(converted, config, unfinished)
        return config


def save_converted(state_dict: Mapping[str, Tensor], config: Mapping[str, Any], file: str | Path) -> None:
    """Writes converted parameters as MMEngine would after training `config`, the config of the model."""
    torch.save({"state_dict": dict(state_dict), "meta": {"cfg": f"model = {dict(config)}"}}, file)


def rename(name: str, names: Mapping[str, str]) -> str | None:
    """Our name of a peer's parameter by the longest entry of `names` that fits (see `Peer`); None if none does."""
    for theirs, ours in sorted(names.items(), key=lambda item: -len(item[0])):
        pattern = re.escape(theirs).replace(r"\*", r"(\d+)")
        if match := re.fullmatch(rf"{pattern}(\..+)?", name):
            *indices, rest = match.groups(default="")
            for index in indices:
                ours = re.sub(r"\[(\d*)i\+?(\d*)\]", lambda m, i=int(index): _place(m, i), ours, count=1)  # type: ignore[misc]
            return ours + rest
    return None


def _place(place: re.Match[str], index: int) -> str:
    return str(int(place[1] or 1) * index + int(place[2] or 0))
