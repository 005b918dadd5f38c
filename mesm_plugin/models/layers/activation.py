# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The activations that the grounders' feed-forward networks have."""

from typing import Literal

from torch import nn

Activation = Literal["prelu", "relu"]


def build_activation(activation: Activation) -> nn.Module:
    """Builds the activation named by a config; that of the QD-DETR family is a PReLU with one learned slope.

    Raises:
        ValueError: `activation` has an unknown value.
    """
    if activation == "prelu":
        return nn.PReLU()
    if activation == "relu":
        return nn.ReLU()
    raise ValueError(f'activation must be "prelu" or "relu", got {activation!r}')
