# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import re

import torch

from bench.environment import environment


def test_environment() -> None:
    facts = environment()
    assert facts["torch"] == torch.__version__
    assert facts["threads"] == torch.get_num_threads()
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", str(facts["revision"]))
    assert (facts["device"] != "cpu") == torch.cuda.is_available()
    assert facts["cpu"]
