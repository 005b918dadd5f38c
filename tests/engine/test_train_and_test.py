# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What training and testing return; tests/cli/ runs them."""

import numpy as np

from mesm_plugin.engine.train_and_test import Result


def test_scores_are_what_json_knows() -> None:
    metrics = {"R1@0.5": np.float32(50), "mAP": float("nan"), "mIoU": float("inf")}
    scores = Result("test", "x", metrics, None).scores
    assert scores == {"R1@0.5": 50.0, "mAP": None, "mIoU": None}
    assert type(scores["R1@0.5"]) is float
