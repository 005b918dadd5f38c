# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import Tensor, nn

from mesm_plugin.models.layers.mlp import MLP


class Adapted(nn.Module):
    """A layer with a small update, in the place of the layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.update = nn.Linear(6, 6, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.update(x)


@pytest.mark.parametrize("change", ["nothing", "adapter", "norm", "activation", "dropout", "relu", "hook"])
def test_equals_its_layers_one_by_one(change: str) -> None:
    torch.manual_seed(0)
    mlp = MLP(5, 6, 3, 3)
    if change == "adapter":
        mlp[2] = Adapted(mlp[2])
    elif change == "norm":
        mlp[2] = nn.LayerNorm(6)
    elif change == "activation":
        mlp[1] = nn.GELU()
    elif change == "dropout":
        mlp.append(nn.Dropout(1.0))
    elif change == "relu":
        mlp.append(nn.ReLU())
    elif change == "hook":
        mlp[1].register_forward_hook(lambda _layer, _args, out: out + 1)
    x = torch.randn(4, 5)
    truth = x
    for layer in mlp:
        truth = layer(truth)
    torch.testing.assert_close(mlp(x), truth)
