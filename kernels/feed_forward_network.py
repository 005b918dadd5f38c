# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The feed-forward network of a transformer layer."""

import torch
from torch import Tensor, nn

from mesm_plugin.kernels.cpu.suitable import suitable


def feed_forward(
    x: Tensor,
    linear1: nn.Linear,
    activation: nn.Module,
    dropout: nn.Dropout,
    linear2: nn.Linear,
    mask: Tensor | None = None,
) -> Tensor:
    """Linear, activation, dropout, linear.

    On a CPU a C++ operator does it, where it takes the tensors (float32 or float64, a ReLU or a PReLU with one slope):
    its rows pass in stretches that fit the cache, and rows of padding are left out.

    Args:
        x: (..., D).
        linear1: From D to the hidden channels.
        activation: Between the layers.
        dropout: Of the hidden numbers, of less than 1.
        linear2: From the hidden channels.
        mask: (...) bool, True = valid, or None = all. What comes out of the other rows is not to be used: it is finite,
            and no gradient goes through them.

    Returns:
        (..., channels of `linear2`).
    """
    parameters = [linear1.weight, linear1.bias, linear2.weight, linear2.bias]
    slope = activation.weight if isinstance(activation, nn.PReLU) else None
    known = isinstance(activation, nn.ReLU) or (slope is not None and slope.numel() == 1)
    if slope is not None:
        parameters.append(slope)
    if not known or not suitable(x, *parameters):
        return linear2(dropout(activation(linear1(x))))
    keeps = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *parameters))
    dropout_p = dropout.p if dropout.training else 0.0
    seed = torch.ops.mesm_plugin.draw_seed() if dropout_p > 0 else 0
    out, _ = torch.ops.mesm_plugin.feed_forward(
        x.flatten(0, -2),
        None if mask is None else mask.flatten(),
        linear1.weight,
        linear1.bias,
        slope,
        linear2.weight,
        linear2.bias,
        seed,
        dropout_p,
        keeps,
    )
    return out.view(*x.shape[:-1], -1)
