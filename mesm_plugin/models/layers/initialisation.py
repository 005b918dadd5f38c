# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What weights start from."""

from torch import nn


def init_xavier_uniform(module: nn.Module) -> None:
    """Draws the parameters of a module that have more than one dimension by Xavier's uniform rule (as in DETR)."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)


def init_zeros(module: nn.Module) -> None:
    """Sets all parameters of a module to zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
