# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Linear layers with ReLU between them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mesm_plugin.kernels.cpu.suitable import in_float32, products_in_bfloat16, replaceable, standard, suitable


def perceptron(x: Tensor, layers: Sequence[nn.Linear]) -> Tensor:
    """Applies linear layers, with ReLU between them.

    On a CPU a C++ operator does it, where it takes the tensors (float32 or float64, up to three layers with biases) and
    no layer has hooks. Under autocast to bfloat16 the factors of its products and the products are rounded to it; all
    else, and what comes out, is float32.

    Args:
        x: (..., channels of the first layer).
        layers: At least one.

    Returns:
        (..., channels of the last layer).
    """
    if replaceable(*layers):
        return _perceptron(x, [layer.weight for layer in layers], [layer.bias for layer in layers])
    for layer in layers[:-1]:
        x = layer(x).relu()
    return layers[-1](x)


def _perceptron(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    if len(weights) > 3 or any(bias is None for bias in biases) or not suitable(x, *weights, *biases):
        for weight, bias in zip(weights[:-1], biases, strict=False):
            x = F.linear(x, weight, bias).relu()
        return F.linear(x, weights[-1], biases[-1])
    [rows] = in_float32(x.reshape(-1, x.shape[-1]))
    outputs = torch.ops.mesm_plugin.perceptron(rows, in_float32(*weights), in_float32(*biases), products_in_bfloat16())
    return outputs[-1].view(*x.shape[:-1], weights[-1].shape[0])


@standard
class Linear(nn.Linear):
    """`torch.nn.Linear` by the operator of `perceptron`; arguments as there."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (..., in_features) to (..., out_features)."""
        return _perceptron(x, [self.weight], [self.bias])
