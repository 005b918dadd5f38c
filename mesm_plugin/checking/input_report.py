# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What was found when the inputs of a config were looked at."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from mesm_plugin.engine.build_errors import explain_build_error

MOST_SHOWN = 10


@dataclass(frozen=True)
class Problem:
    """Something that is broken.

    Attributes:
        part: Of the inputs: "config", "model", or a split and what of it, such as "train features".
        name: What is broken: a file, a video, a query; empty where `reason` says it.
        reason: What is wrong with it.
    """

    part: str
    name: str
    reason: str

    def __str__(self) -> str:
        # Reasons often begin with the place.
        return self.reason if self.reason.startswith(self.name) else f"{self.name}: {self.reason}"


@dataclass
class InputReport:
    """What was found.

    Attributes:
        config: Name of the config.
        splits: Numbers by split and name.
        problems: What has to be mended.
        notices: What is worth knowing, and what was not looked at.
    """

    config: str
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def add(self, part: str, name: str, reason: str) -> None:
        """Adds a problem."""
        self.problems.append(Problem(part, name, reason))

    @contextmanager
    def collecting(self, part: str, name: str = "") -> Iterator[None]:
        """Around a look at a part: what it raises becomes a problem."""
        try:
            yield
        except Exception as error:
            explained = explain_build_error(error)
            known = isinstance(error, (OSError, ValueError, KeyError))
            kind = "" if known else f"{type(error).__name__}: "
            # A KeyError prints its message quoted.
            message = error.args[0] if type(error) is KeyError and error.args else error
            self.add(part, name, explained or f"{kind}{message}")

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON values."""
        return {
            "config": self.config,
            "splits": self.splits,
            "problems": [vars(problem) for problem in self.problems],
            "notices": self.notices,
        }

    def __str__(self) -> str:
        """A table of the splits, then notices and problems, of a part at most ten."""
        lines = [f"Inputs of {self.config}", "", *_table(self.splits), ""]
        lines += [f"Note: {notice}" for notice in self.notices]
        for part, group in groupby(self.problems, key=lambda problem: problem.part):
            problems = list(group)
            lines += [f"{part}: {problem}" for problem in problems[:MOST_SHOWN]]
            if len(problems) > MOST_SHOWN:
                lines.append(f"{part}: and {len(problems) - MOST_SHOWN} more")
        count = len(self.problems)
        lines.append("No problems." if count == 0 else f"{count} problem{'s' if count > 1 else ''}.")
        return "\n".join(lines)


def _table(splits: dict[str, dict[str, Any]]) -> list[str]:
    labels = list(dict.fromkeys(label for numbers in splits.values() for label in numbers))
    rows = [["", *splits]]
    rows += [[label, *(str(numbers.get(label, "-")) for numbers in splits.values())] for label in labels]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["   ".join([label.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]) for label, *cells in rows]
