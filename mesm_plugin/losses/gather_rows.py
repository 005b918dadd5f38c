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
    carries all tensors, and one their gradients. How many rows there are and which tensors need gradients the hosts
    tell one another, so that none waits for its device. What needs gradients in one process has them in all, so that
    all take part in the collective of backward.

    Args:
        tensors: Of each process, which may have different numbers of rows, or none; (n, ...) and dtype as in the
            others.

    Returns:
        Tensors (N, ...), the same in all processes; `tensors` themselves if there is but one.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return list(tensors)
    lengths, wanted = _told_by_all(tensors)
    # Makes the outputs need gradients where none of the tensors does.
    anchor = torch.empty(0, requires_grad=any(wanted))
    joined = _Gather.apply(max(lengths), wanted, anchor, *tensors)
    return [torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)]) for parts in joined]


def apart(numbers: Tensor) -> Tensor:
    """Numbers (n,) int64 below 2^32 of each process, made different from those of the other processes."""
    rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
    return numbers + rank * 2**32


def _told_by_all(tensors: tuple[Tensor, ...]) -> tuple[list[int], list[bool]]:
    """The number of rows in each process, and of each tensor whether it needs gradients in any."""
    group = dist.group.WORLD if dist.get_backend() == "gloo" else _between_hosts(dist.group.WORLD)
    own = torch.tensor([len(tensors[0]), *(torch.is_grad_enabled() and tensor.requires_grad for tensor in tensors)])
    told = own.new_empty(dist.get_world_size() * len(own))
    _all_gather(told, own, group=group)
    lengths, *wanted = told.view(-1, len(own)).T.tolist()
    return lengths, [any(needed) for needed in wanted]


@lru_cache(maxsize=1)
def _between_hosts(everyone: Any) -> Any:
    """A group of all processes for tensors on the CPU."""
    return dist.new_group(backend="gloo")


class _Gather(torch.autograd.Function):
    """Tensors (n, ...) of each process to (processes, rows, ...), padded with zeros to `rows`."""

    @staticmethod
    def forward(ctx: Any, rows: int, wanted: list[bool], anchor: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        pieces = [_packed(_two_dimensional(tensor.detach())).view(torch.uint8) for tensor in tensors]
        packed = torch.cat(pieces, dim=1)
        packed = F.pad(packed, (0, 0, 0, rows - len(packed)))
        gathered = packed.new_empty(dist.get_world_size() * rows, packed.shape[1])
        if packed.numel():
            _all_gather(gathered, packed)
        ctx.wanted = [i for i, needed in enumerate(wanted) if needed]
        ctx.inputs = [(tensor.shape, tensor.dtype) for tensor in tensors]
        ctx.set_materialize_grads(True)
        outputs = []
        for piece, tensor in zip(gathered.split([piece.shape[1] for piece in pieces], dim=1), tensors, strict=True):
            whole = _packed(piece).view(tensor.dtype)
            outputs.append(whole.view(dist.get_world_size(), rows, *tensor.shape[1:]))
        ctx.mark_non_differentiable(*(output for output, needed in zip(outputs, wanted, strict=True) if not needed))
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        dtype = torch.float32
        for i in ctx.wanted:
            dtype = torch.promote_types(dtype, gradients[i].dtype)
        pieces = [_two_dimensional(gradients[i].flatten(0, 1)).to(dtype) for i in ctx.wanted]
        packed = torch.cat(pieces, dim=1)
        own = packed.new_empty(gradients[ctx.wanted[0]].shape[1], packed.shape[1])
        if packed.numel():
            _reduce_scatter(own, packed)
        found: list[Tensor | None] = [None] * len(ctx.inputs)
        for i, piece in zip(ctx.wanted, own.split([piece.shape[1] for piece in pieces], dim=1), strict=True):
            shape, dtype = ctx.inputs[i]
            found[i] = piece[: shape[0]].reshape(shape).to(dtype)
        return None, None, None, *found


def _two_dimensional(tensor: Tensor) -> Tensor:
    return tensor.flatten(1) if tensor.dim() > 1 else tensor[:, None]


def _packed(tensor: Tensor) -> Tensor:
    # To `contiguous` any strides of a tensor with few rows or columns will do, to a view of another dtype they won't.
    return tensor.clone(memory_format=torch.contiguous_format)
