# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import torch

from mesm_plugin.models import MomentHead


def test_moves_anchors_where_there_are_any() -> None:
    torch.manual_seed(0)
    head = MomentHead(8)
    states, anchors = torch.randn(2, 3, 4, 8), torch.full((2, 3, 4, 2), 0.25)
    logits, spans = head(states, None)
    assert logits.shape == (2, 3, 4, 2)
    torch.testing.assert_close(spans, head.span(states).sigmoid())
    moved = head(states, anchors)[1]
    torch.testing.assert_close(moved.logit(), spans.logit() + torch.tensor(0.25).logit(), rtol=1e-4, atol=1e-4)
