# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Numbers of the peers' evaluators, one folder each, found under $MESM_GOLDEN/metrics."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(os.environ.get("MESM_GOLDEN", Path(__file__).parents[3] / "shared" / "golden"))
FOLDERS = sorted(file.parent for file in (GOLDEN / "metrics").rglob("expected.json"))
MISSING = pytest.param(None, marks=pytest.mark.skip(reason=f"no expected.json below {GOLDEN}; set MESM_GOLDEN"))


@dataclass
class GoldenMetrics:
    """Records, the numbers that a peer printed for them, and the options with which it printed those."""

    predictions: list[dict[str, Any]]
    ground_truth: list[dict[str, Any]]
    expected: dict[str, Any]

    def __post_init__(self) -> None:
        scores = self.expected["full"]
        self.r1_thresholds = [float(key) for key in scores["MR-R1"] if key != "miou"]
        self.map_thresholds = [float(key) for key in scores["MR-mAP"] if key != "average"]


@pytest.fixture(scope="session", params=FOLDERS or [MISSING], ids=lambda folder: folder.name if folder else "none")
def golden(request: pytest.FixtureRequest) -> GoldenMetrics:
    """One folder of golden metrics."""
    folder: Path = request.param
    return GoldenMetrics(
        predictions=_read_lines(folder / "predictions.jsonl"),
        ground_truth=_read_lines(folder / "ground_truth.jsonl"),
        expected=json.loads((folder / "expected.json").read_text(encoding="utf-8")),
    )


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
