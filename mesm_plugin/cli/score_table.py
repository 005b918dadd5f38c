# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The scores of a run as text."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import master_only

from mesm_plugin.engine.train_and_test import Result


@master_only
def print_result(result: Result) -> None:
    """Prints of which split and checkpoint the scores are, the scores, and where the picture is."""
    checkpoint = _shown(result.checkpoint) if result.checkpoint else "the weights at the end of training"
    print(f"\nScores on the {result.split.upper()} split ({result.data})")
    print(f"of {checkpoint}{_choice(result)}:")
    print(score_table(result.metrics) if result.metrics else "none, as the split has no labels")
    if result.plot is not None:
        print(f"Plot of predictions: {_shown(result.plot)}")


def score_table(metrics: Mapping[str, Any]) -> str:
    """One line a score, `R1@0.5 73.2`, then a table with a row for each group of scores (`short/R1@0.5`)."""
    groups: dict[str, dict[str, Any]] = {}
    for key, value in metrics.items():
        group, _, name = key.rpartition("/")
        groups.setdefault(group, {})[name] = value
    lines = [f"{name} {_number(value)}" for name, value in groups.pop("", {}).items()]
    if groups:
        names = list(dict.fromkeys(name for scores in groups.values() for name in scores))
        width = max(map(len, groups))
        lines.append("  ".join([" " * width, *names]))
        for group, scores in groups.items():
            cells = [_number(scores.get(name)).rjust(len(name)) for name in names]
            lines.append("  ".join([group.ljust(width), *cells]))
    return "\n".join(lines)


def _choice(result: Result) -> str:
    if result.chosen_on is None:
        return ""
    if result.chosen_on == result.split:
        return f", chosen as the best on this {result.split} split itself"
    return f", chosen as the best on the {result.chosen_on} split"


def _shown(path: Path) -> Path:
    """A path as it can be typed from here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _number(value: Any) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.1f}"
