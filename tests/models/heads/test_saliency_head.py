# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from mesm_plugin.models import GlobalTokenSaliencyHead, MLPSaliencyHead, SummedSaliencyHead


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
    # A projection that is changed from outside is called.
    head.clip_projection.register_forward_hook(lambda _layer, _args, out: 2 * out)
    torch.testing.assert_close(head(clips, token), 2 * expected)
    with pytest.raises(ValueError, match="GlobalTokenSaliencyHead needs a global token"):
        head(clips, None)


@pytest.mark.parametrize("projection", [torch.nn.Linear(4, 4, bias=False), torch.nn.LayerNorm(4)])
def test_another_projection_is_called(projection: torch.nn.Module) -> None:
    head, clips, token = GlobalTokenSaliencyHead(4), torch.randn(2, 5, 4), torch.randn(2, 4)
    head.clip_projection = projection
    expected = torch.einsum("pld,pd->pl", projection(clips), head.token_projection(token)) / 2
    torch.testing.assert_close(head(clips, token), expected)


def test_summed_head_sums_projected_channels() -> None:
    head = SummedSaliencyHead(4)
    clips = torch.randn(2, 5, 4)
    expected = head.projection(clips).sum(dim=2) / 2
    torch.testing.assert_close(head(clips, None), expected)
    # A projection that is changed from outside is called.
    head.projection.register_forward_hook(lambda _layer, _args, out: 2 * out)
    torch.testing.assert_close(head(clips, None), 2 * expected)
