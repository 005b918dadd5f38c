# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Scores of a run as a file."""

from pathlib import Path
from typing import TYPE_CHECKING

from mmengine.dist import master_only

from mesm_plugin.utils import write_json

if TYPE_CHECKING:
    from mesm_plugin.engine.train_and_test import Result

RESULT = "metrics.json"


@master_only
def write_result(result: "Result", config: str, path: Path) -> None:
    """Writes `config`, `checkpoint`, `chosen_on`, `split`, `data` and `metrics`, of which those that are not finite
    are null."""
    content = {
        "config": config,
        "checkpoint": None if result.checkpoint is None else str(result.checkpoint),
        "chosen_on": result.chosen_on,
        "split": result.split,
        "data": result.data,
        "metrics": result.scores,
    }
    write_json(path, content)
