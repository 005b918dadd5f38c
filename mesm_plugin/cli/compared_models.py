# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Arguments that name further models to compare with."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class ComparedModel:
    """A model on the command line.

    Attributes:
        config: Path or name.
        checkpoint: Path.
        features: Feature files; None = those of the first model.
        cfg_options: Changes of the config, `key=value`.
    """

    config: str
    checkpoint: str
    features: list[str] | None = None
    cfg_options: list[str] = field(default_factory=list)


class _Compare(argparse.Action):
    """`--compare` starts a model, the options after it belong to it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        assert isinstance(values, list)
        models = list(getattr(namespace, "compare", None) or [])
        if option_string == "--compare":
            models.append(ComparedModel(*values))
        elif not models:
            parser.error(f"{option_string} belongs to the --compare before it, and there is none")
        elif option_string == "--compare-features":
            models[-1].features = values
        else:
            models[-1].cfg_options += values
        namespace.compare = models


def add_compare_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--compare` with its features and options, and `--label`; they set `compare` and `label`."""
    group = parser.add_argument_group("further models")
    group.add_argument(
        "--compare",
        metavar=("CONFIG", "CHECKPOINT"),
        nargs=2,
        action=_Compare,
        help="predict with this model too; may be given repeatedly",
    )
    group.add_argument(
        "--compare-features",
        metavar="FILE",
        nargs="+",
        action=_Compare,
        dest="compare",
        help="feature files of the model of the --compare before it (default: those of --features)",
    )
    group.add_argument(
        "--compare-options",
        metavar="KEY=VALUE",
        nargs="+",
        action=_Compare,
        dest="compare",
        help="change keys of the config of the --compare before it, as --cfg-options",
    )
    group.add_argument(
        "--label",
        metavar="NAME",
        action="append",
        help="what a model is called, first that of CHECKPOINT and then one for each --compare (default: the names of "
        "the configs)",
    )
