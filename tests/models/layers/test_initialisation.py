# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import torch
from torch import nn

from mesm_plugin.models.layers import init_xavier_uniform, init_zeros


def test_draws_matrices_in_order_and_leaves_vectors() -> None:
    module = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Conv1d(5, 2, 3))
    vectors = [x.clone() for x in module.parameters() if x.dim() == 1]
    torch.manual_seed(0)
    init_xavier_uniform(module)
    torch.manual_seed(0)
    for drawn in (module[0].weight, module[2].weight):
        assert torch.equal(drawn, nn.init.xavier_uniform_(torch.empty_like(drawn)))
    for before, after in zip(vectors, (x for x in module.parameters() if x.dim() == 1), strict=True):
        assert torch.equal(before, after)


def test_sets_all_parameters_to_zero() -> None:
    layer = nn.Linear(3, 2)
    init_zeros(layer)
    assert not layer.weight.any()
    assert not layer.bias.any()
