# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The projection of features to the common space."""

from torch import Tensor, nn

from mesm_plugin.kernels import Dropout, Linear


class InputProjection(nn.Sequential):
    """Maps features to the common space: blocks of LayerNorm, dropout, linear; ReLU between blocks (as in QD-DETR).

    Args:
        in_dims: Dv or Dt, channels of the features.
        out_dims: D.
        num_layers: Number of blocks.
        dropout: Dropout before each linear layer.
        name: What is projected, for messages.
    """

    def __init__(
        self, in_dims: int, out_dims: int, num_layers: int = 2, dropout: float = 0.5, name: str = "input"
    ) -> None:
        layers: list[nn.Module] = []
        for i in range(num_layers):
            dims = in_dims if i == 0 else out_dims
            layers += [nn.LayerNorm(dims), Dropout(dropout), Linear(dims, out_dims), nn.ReLU()]
        super().__init__(*layers[:-1])
        self.in_dims = in_dims
        self.name = name

    def forward(self, features: Tensor) -> Tensor:
        """Projects features (..., in_dims) to (..., out_dims).

        Raises:
            ValueError: The features have another width than the projection was built for.
        """
        if features.shape[-1] != self.in_dims:
            raise ValueError(
                f"the {self.name} features have {features.shape[-1]} channels, but the model was built for "
                f"{self.in_dims}; video_dims (temporal endpoint channels included), text_dims and token_dims of the "
                "model must be the widths of the features"
            )
        return super().forward(features)
