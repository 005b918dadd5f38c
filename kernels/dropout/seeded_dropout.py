# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Dropout: PyTorch's, but for training on a CPU, where drawing the mask takes longer than everything else of it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mesm_plugin.kernels.arguments import check_probability, check_tensors
from mesm_plugin.kernels.cpu import operators_are_loaded
from mesm_plugin.kernels.cpu.replaceable import standard
from mesm_plugin.kernels.cpu.suitable import transforming, within_plain_operators

_DTYPES = (torch.float32, torch.bfloat16, torch.float64)
# Below, PyTorch's takes no longer.
_FEWEST_ELEMENTS = 1024


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Drops elements with probability p and scales the others by 1 / (1 - p).

    Same as `torch.nn.functional.dropout`, with other random numbers on a CPU: there a seed is drawn from PyTorch's
    default generator, and the mask from the seed by Philox4x32-10, in C++, once in the forward and once in the backward
    pass, the same for any number of threads. p is rounded to a multiple of 2 ** -32. PyTorch's dropout is used for
    tensors of fewer than 1024 elements (but under `torch.compile`) and of other dtypes than float32, bfloat16 and
    float64, under `torch.export`, `torch.func` and `torch.autograd.forward_ad`, and where the C++ part cannot be built
    (`operators_are_loaded`).

    Args:
        x: Tensor of any shape.
        p: Probability, 0 to 1.
        training: Whether to drop at all.

    Returns:
        A tensor like x; x itself if nothing is to be dropped.

    Raises:
        TypeError: x is no tensor, or p no number.
        ValueError: p is out of range, or x, where it is to be dropped from, an integer tensor.
    """
    check_tensors({"x": x})
    check_probability("p", p)
    if training and p > 0 and not x.is_floating_point() and not x.is_complex():
        raise ValueError(f"x must be a floating-point tensor, got {x.dtype}")
    if not training or not 0 < p < 1 or not _suits(x) or not operators_are_loaded():
        return F.dropout(x, p, training)
    # A compiled graph draws its seed by an operator of PyTorch; else the operator draws it.
    compiling = torch.compiler.is_compiling()
    seed = torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64) if compiling else None
    return torch.ops.mesm_plugin.dropout(x, seed, p)


def _suits(x: Tensor) -> bool:
    """Whether the operator takes a tensor, and is worth its call."""
    return (
        x.is_cpu
        and x.dtype in _DTYPES
        # A graph that asked for the size would be of no use for batches on the other side of it.
        and (torch.compiler.is_compiling() or (x.numel() >= _FEWEST_ELEMENTS and not within_plain_operators()))
        and type(x) is Tensor
        and not torch.compiler.is_exporting()
        and not transforming()
    )


@standard
class Dropout(nn.Dropout):
    """`dropout` as a module.

    Args:
        p: Probability, 0 to 1.

    Raises:
        TypeError: p is no number.
        ValueError: p is out of range.
    """

    def __init__(self, p: float = 0.5) -> None:
        check_probability("p", p)
        super().__init__(p)

    def forward(self, x: Tensor) -> Tensor:
        """Returns x with elements dropped in training."""
        return dropout(x, self.p, self.training)
