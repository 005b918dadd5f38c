# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import torch

from bench.operators import count_operators, our_loss
from mesm_plugin.kernels.cpu import operators_are_loaded


def test_views_do_not_count() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    forward, backward = count_operators(lambda: (x.view(3, 2).transpose(0, 1).detach() * x).exp().sum())
    assert forward == {"aten::mul": 1, "aten::exp": 1, "aten::sum": 1}
    # Views of the gradient do not count either; that of the product is kept in the order of the leaf.
    assert backward == {"aten::ones_like": 1, "aten::mul": 2, "aten::new_empty_strided": 1, "aten::copy_": 1}


def test_a_training_step_has_few() -> None:
    forward, backward = count_operators(our_loss("charades-clip-slowfast"))
    assert "aten::_local_scalar_dense" not in forward + backward
    assert forward.total() + backward.total() <= (900 if operators_are_loaded() else 2200)
