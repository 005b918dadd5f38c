# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Linear layers with ReLU between them."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mesm_plugin.kernels.cpu.replaceable import replaceable, standard
from mesm_plugin.kernels.cpu.suitable import in_float32, products_in_bfloat16, suitable


def perceptron(x: Tensor, modules: Sequence[nn.Module]) -> Tensor:
    """Applies modules one after the other: linear layers with a ReLU between each two, or what took their place.

    On a CPU a C++ operator does it, where it takes the tensors (float32 or float64, up to three layers with biases) and
    no module has hooks. Under autocast to bfloat16 the factors of its products and the products are rounded to it; all
    else, and what comes out, is float32.

    Args:
        x: (..., channels of the first layer).
        modules: Layer, ReLU, layer, ...

    Returns:
        (..., channels of the last layer).
    """
    layers, activations = modules[::2], modules[1::2]
    known = (
        len(modules) % 2 == 1
        and all(isinstance(layer, nn.Linear) for layer in layers)
        and all(isinstance(activation, nn.ReLU) for activation in activations)
    )
    out = _by_operator(x, cast("Sequence[nn.Linear]", layers)) if known and replaceable(*modules) else None
    if out is not None:
        return out
    for module in modules:
        x = module(x)
    return x


def _by_operator(x: Tensor, layers: Sequence[nn.Linear]) -> Tensor | None:
    """None where the operator does not take the tensors."""
    weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
    if len(layers) > 3 or any(bias is None for bias in biases) or not suitable(x, *weights, *biases):
        return None
    [rows] = in_float32(x.reshape(-1, x.shape[-1]))
    outputs = torch.ops.mesm_plugin.perceptron(rows, in_float32(*weights), in_float32(*biases), products_in_bfloat16())
    return outputs[-1].view(*x.shape[:-1], weights[-1].shape[0])


@standard
class Linear(nn.Linear):
    """`torch.nn.Linear`, computed by the operator of `perceptron` where that takes the tensors."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (..., in_features) to (..., out_features)."""
        out = _by_operator(x, [self])
        return super().forward(x) if out is None else out
