# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What the tests of the engine share."""

from typing import Any

import pytest


@pytest.fixture
def mesm_config(grounder_config: dict[str, Any]) -> dict[str, Any]:
    """MESM with one layer of each kind."""
    aligner = grounder_config["aligner"]
    aligner["num_layers"] = aligner["frame_word"]["num_layers"] = aligner["segment_sentence"]["num_layers"] = 1
    grounder_config["encoder"]["num_layers"] = grounder_config["decoder"]["num_layers"] = 1
    return grounder_config
