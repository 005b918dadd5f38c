# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The residual connection of a transformer layer."""

import torch
from torch import Tensor, nn

from mesm_plugin.kernels.cpu.replaceable import replaceable
from mesm_plugin.kernels.cpu.suitable import in_float32, suitable


def add_norm(x: Tensor, update: Tensor, dropout: nn.Dropout, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """x + dropout(update), and the layer normalisation of it.

    On a CPU a C++ operator does both in one pass, where it takes the tensors (float32 or float64) and no module has
    hooks. Under autocast to bfloat16 it makes float32 of them.

    Args:
        x: (..., D).
        update: (..., D).
        dropout: Of the update.
        norm: Over the D channels.

    Returns:
        The sum and the normalised sum, (..., D) each.
    """
    if replaceable(dropout, norm):
        dropout_p = dropout.p if dropout.training else 0.0
        if dropout_p < 1 and suitable(x, update, norm.weight, norm.bias):
            tensors = in_float32(x, update, norm.weight, norm.bias)
            return torch.ops.mesm_plugin.add_norm(*tensors, norm.eps, None, dropout_p)[:2]
    total = x + dropout(update)
    return total, norm(total)
