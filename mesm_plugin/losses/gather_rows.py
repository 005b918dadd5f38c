# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The batches of all processes as one."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F


def gather_rows(*tensors: Tensor) -> list[Tensor]:
    """Joins tensors of equal length (n, ...) along their rows, over all processes in order of their rank.

    Gradients go back to the process that a row came from: the sum of those that it has in all processes.

    Args:
        tensors: Of each process, which may have different numbers of rows.

    Returns:
        Tensors (N, ...), the same in all processes; `tensors` themselves if there is but one.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return list(tensors)
    rows = torch.tensor(len(tensors[0]), device=tensors[0].device)
    counts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, rows)
    lengths = [int(count) for count in counts]
    joined = []
    for tensor in tensors:
        padded = F.pad(tensor, (*(0, 0) * (tensor.dim() - 1), 0, max(lengths) - len(tensor)))
        parts = _Gather.apply(padded)
        joined.append(torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)]))
    return joined


def apart(numbers: Tensor) -> Tensor:
    """Numbers (n,) int64 below 2^32 of each process, made different from those of the other processes."""
    rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
    return numbers + rank * 2**32


class _Gather(torch.autograd.Function):
    """(n, ...) of each process to (processes, n, ...)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[dist.get_rank()]
