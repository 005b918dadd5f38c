# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The feed-forward block of a transformer layer."""

import torch
from torch import Tensor, nn

from mesm_plugin.kernels.cpu.replaceable import replaceable
from mesm_plugin.kernels.cpu.suitable import in_float32, products_in_bfloat16, suitable


def feed_forward(
    x: Tensor,
    residual: Tensor,
    linear1: nn.Linear,
    activation: nn.Module,
    dropout: nn.Dropout,
    linear2: nn.Linear,
    norm: nn.LayerNorm | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """norm(residual + dropout(linear2(dropout(activation(linear1(x)))))).

    On a CPU a C++ operator does it, where it takes the tensors (float32 or float64, a ReLU or a PReLU with one slope)
    and no module has hooks: its rows pass in stretches that fit the cache, and rows of padding are left out. Under
    autocast to bfloat16 the factors of its products, the products and the hidden numbers are rounded to it; all else,
    and what comes out, is float32.

    Args:
        x: (..., D).
        residual: (..., channels of `linear2`) what the network updates, `x` itself or another tensor.
        linear1: From D to the hidden channels.
        activation: Between the layers.
        dropout: Of the hidden numbers and of the update.
        linear2: From the hidden channels.
        norm: Of the sum, over its channels; None = without.
        mask: (...) bool, True = valid, or None = all. What comes out of the other rows is not to be used: it is finite,
            and no gradient goes through them.

    Returns:
        Like `residual`.
    """
    modules = [module for module in (linear1, activation, dropout, linear2, norm) if module is not None]
    slope = activation.weight if isinstance(activation, nn.PReLU) else None
    known = isinstance(activation, nn.ReLU) or (slope is not None and slope.numel() == 1)
    if known and replaceable(*modules):
        dropout_p = dropout.p if dropout.training else 0.0
        gamma, beta, eps = (None, None, 0.0) if norm is None else (norm.weight, norm.bias, norm.eps)
        given = [x, residual, linear1.weight, linear1.bias, linear2.weight, linear2.bias]
        given += [] if slope is None else [slope]
        given += [] if norm is None else [norm.weight, norm.bias]
        if dropout_p < 1 and suitable(*given):
            x, residual, *parameters = in_float32(
                x, residual, linear1.weight, linear1.bias, slope, linear2.weight, linear2.bias, gamma, beta
            )
            out, *_ = torch.ops.mesm_plugin.feed_forward(
                x.reshape(-1, x.shape[-1]),
                residual.reshape(-1, residual.shape[-1]),
                None if mask is None else mask.flatten(),
                *parameters,
                eps,
                None,
                dropout_p,
                torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given),
                products_in_bfloat16(),
            )
            return out.view_as(residual)
    out = residual + dropout(linear2(dropout(activation(linear1(x)))))
    return out if norm is None else norm(out)
