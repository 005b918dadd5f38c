# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The multi-layer perceptron of decoders, heads and slots."""

from torch import Tensor, nn

from mesm_plugin.kernels import perceptron


class MLP(nn.Sequential):
    """Linear layers with ReLU between them.

    Args:
        in_dims: Channels of the input.
        hidden_dims: Channels between the layers.
        out_dims: Channels of the output.
        num_layers: Number of linear layers.
    """

    def __init__(self, in_dims: int, hidden_dims: int, out_dims: int, num_layers: int) -> None:
        dims = [in_dims, *[hidden_dims] * (num_layers - 1), out_dims]
        layers: list[nn.Module] = []
        for i in range(num_layers):
            layers += [nn.Linear(dims[i], dims[i + 1]), nn.ReLU()]
        super().__init__(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (..., in_dims) to (..., out_dims)."""
        return perceptron(x, list(self))
