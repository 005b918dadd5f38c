# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The batches of all processes as one."""

from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

# PyTorch 2.13 warns of the older names.
_all_gather: Any = getattr(dist, "all_gather_single", None) or getattr(dist, "all_gather_into_tensor", None)
_reduce_scatter: Any = getattr(dist, "reduce_scatter_single", None) or getattr(dist, "reduce_scatter_tensor", None)


def gather_rows(*tensors: Tensor) -> list[Tensor]:
    """Joins tensors of equal length (n, ...) along their rows, over all processes in order of their rank.

    Gradients go back to the process that a row came from: the sum of those that it has in all processes. One collective
    carries all tensors, and one their gradients. How many rows there are the hosts tell one another, so that none waits
    for its device.

    Args:
        tensors: Of each process, which may have different numbers of rows.

    Returns:
        Tensors (N, ...), the same in all processes; `tensors` themselves if there is but one.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return list(tensors)
    lengths = _lengths(len(tensors[0]))
    joined = _Gather.apply(max(lengths), *tensors)
    return [torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)]) for parts in joined]


def apart(numbers: Tensor) -> Tensor:
    """Numbers (n,) int64 below 2^32 of each process, made different from those of the other processes."""
    rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
    return numbers + rank * 2**32


def _lengths(length: int) -> list[int]:
    group = dist.group.WORLD if dist.get_backend() == "gloo" else _between_hosts(dist.group.WORLD)
    lengths = torch.empty(dist.get_world_size(), dtype=torch.int64)
    _all_gather(lengths, torch.tensor([length]), group=group)
    return lengths.tolist()


@lru_cache(maxsize=1)
def _between_hosts(everyone: Any) -> Any:
    """A group of all processes for tensors on the CPU."""
    return dist.new_group(backend="gloo")


class _Gather(torch.autograd.Function):
    """Tensors (n, ...) of each process to (processes, rows, ...), padded with zeros to `rows`."""

    @staticmethod
    def forward(ctx: Any, rows: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        pieces = [_as_bytes(tensor) for tensor in tensors]
        packed = torch.cat(pieces, dim=1)
        packed = F.pad(packed, (0, 0, 0, rows - len(packed)))
        gathered = packed.new_empty(dist.get_world_size() * rows, packed.shape[1])
        _all_gather(gathered, packed)
        ctx.inputs = [(tensor.shape, tensor.dtype) for tensor in tensors]
        ctx.set_materialize_grads(True)
        outputs = []
        for piece, tensor in zip(gathered.split([piece.shape[1] for piece in pieces], dim=1), tensors, strict=True):
            whole = piece.contiguous().view(tensor.dtype).view(-1, rows, *tensor.shape[1:])
            if not tensor.is_floating_point():
                ctx.mark_non_differentiable(whole)
            outputs.append(whole)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[1:]) if needed]
        dtype = torch.promote_types(torch.float32, gradients[wanted[0]].dtype)
        pieces = [gradients[i].flatten(0, 1).flatten(1).to(dtype) for i in wanted]
        packed = torch.cat(pieces, dim=1)
        own = packed.new_empty(gradients[wanted[0]].shape[1], packed.shape[1])
        _reduce_scatter(own, packed)
        found: list[Tensor | None] = [None] * len(ctx.inputs)
        for i, piece in zip(wanted, own.split([piece.shape[1] for piece in pieces], dim=1), strict=True):
            shape, dtype = ctx.inputs[i]
            found[i] = piece[: shape[0]].reshape(shape).to(dtype)
        return None, *found


def _as_bytes(tensor: Tensor) -> Tensor:
    """(n, ...) to (n, bytes) uint8."""
    rows = tensor.detach().flatten(1) if tensor.dim() > 1 else tensor.detach()[:, None]
    return rows.contiguous().view(torch.uint8)
