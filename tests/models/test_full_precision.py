# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""From mixed precision to float32."""

from dataclasses import dataclass

import torch

from mesm_plugin.models.full_precision import at_least_float32


@dataclass
class Output:
    clips: torch.Tensor
    parts: dict
    count: int = 3


def test_only_half_precision_changes():
    half = torch.tensor([0.1]).bfloat16()
    output = Output(half, {"a": [half.half(), (torch.tensor([True]),)], "b": None, "c": torch.ones(1).double()})
    changed = at_least_float32(output)
    assert changed.clips.dtype == torch.float32
    assert changed.clips.item() == half.item()
    assert changed.parts["a"][0].dtype == torch.float32
    assert changed.parts["a"][1][0].dtype == torch.bool
    assert changed.parts["c"].dtype == torch.float64
    assert (changed.parts["b"], changed.count) == (None, 3)
    assert output.clips.dtype == torch.bfloat16
