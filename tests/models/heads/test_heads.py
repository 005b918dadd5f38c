# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from mesm_plugin.models import GlobalTokenSaliencyHead, MLPSaliencyHead, MomentHead, SummedSaliencyHead


def test_moment_head_moves_anchors_where_there_are_any() -> None:
    torch.manual_seed(0)
    head = MomentHead(8)
    states, anchors = torch.randn(2, 3, 4, 8), torch.full((2, 3, 4, 2), 0.25)
    logits, spans = head(states, None)
    assert logits.shape == (2, 3, 4, 2)
    torch.testing.assert_close(spans, head.span(states).sigmoid())
    moved = head(states, anchors)[1]
    torch.testing.assert_close(moved.logit(), spans.logit() + torch.tensor(0.25).logit(), rtol=1e-4, atol=1e-4)


def test_one_layer_of_the_mlp_head_is_linear() -> None:
    head = MLPSaliencyHead(8, num_layers=1)
    clips = torch.randn(2, 5, 8)
    expected = clips @ head.mlp[0].weight[0] + head.mlp[0].bias
    torch.testing.assert_close(head(clips, None), expected)


def test_global_token_head() -> None:
    head = GlobalTokenSaliencyHead(4)
    clips, token = torch.randn(2, 5, 4), torch.randn(2, 4)
    expected = torch.einsum("pld,pd->pl", head.clip_projection(clips), head.token_projection(token)) / 2
    torch.testing.assert_close(head(clips, token), expected)
    with pytest.raises(ValueError, match="GlobalTokenSaliencyHead needs a global token"):
        head(clips, None)


def test_summed_head_sums_projected_channels() -> None:
    head = SummedSaliencyHead(4)
    clips = torch.randn(2, 5, 4)
    torch.testing.assert_close(head(clips, None), head.projection(clips).sum(dim=2) / 2)
