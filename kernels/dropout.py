# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Dropout whose mask is cheap to draw on a CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_LEVELS = 2**16


class _MaskedDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        # One 64-bit draw serves four elements; PyTorch's own dropout draws a number for each.
        threshold = min(round(p * _LEVELS), _LEVELS - 1)
        draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        dropped = (draws.view(torch.int16)[: x.numel()] < threshold - _LEVELS // 2).view(x.shape)
        ctx.save_for_backward(dropped)
        ctx.scale = _LEVELS / (_LEVELS - threshold)
        return (x * ctx.scale).masked_fill_(dropped, 0.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (dropped,) = ctx.saved_tensors
        return (gradients[0] * ctx.scale).masked_fill_(dropped, 0.0), None


def dropout(x: Tensor, p: float, training: bool = True) -> Tensor:
    """Drops elements with probability p and scales the others by 1 / (1 - p).

    On a CPU the mask is drawn four elements at a time, which rounds p to a multiple of 2 ** -16, and one byte for each
    element is kept for the backward pass; elsewhere this is PyTorch's dropout.

    Args:
        x: Floating-point tensor of any shape.
        p: Probability, at least 0 and below 1.
        training: Whether to drop at all.

    Returns:
        A tensor like x.

    Raises:
        ValueError: p is out of range.
    """
    _check(p)
    if not training or p == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    return _MaskedDropout.apply(x, p)


def _check(p: float) -> None:
    if not 0 <= p < 1:
        raise ValueError(f"p must be at least 0 and below 1, got {p}")


class Dropout(torch.nn.Module):
    """`dropout` as a module.

    Args:
        p: Probability, at least 0 and below 1.

    Raises:
        ValueError: p is out of range.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        _check(p)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Returns x with elements dropped in training."""
        return dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        """The probability, as PyTorch prints it."""
        return f"p={self.p}"
