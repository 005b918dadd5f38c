# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Tensors that go from a loader's worker to the main process as one block."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

# Where a tensor begins: that of the widest vector loads.
_ALIGNMENT = 64


class TensorBlock(dict[str, Tensor]):
    """Tensors by name.

    PyTorch sends each tensor of a batch in shared memory of its own, with a file descriptor of its own; the small ones
    take as long as the clips. Here pickling copies all of them into one block, which is the shared memory if a worker
    pickles it.
    """

    def __reduce__(self) -> Any:
        tensors = [tensor.contiguous() for tensor in self.values()]
        offsets = [0]
        for tensor in tensors:
            offsets.append(offsets[-1] + tensor.nbytes + -tensor.nbytes % _ALIGNMENT)
        block = _empty_block(offsets[-1])
        for tensor, offset in zip(tensors, offsets, strict=False):
            _part(block, offset, tensor.dtype, tensor.shape).copy_(tensor)
        layout = [
            (name, offset, tensor.dtype, tuple(tensor.shape))
            for name, offset, tensor in zip(self, offsets, tensors, strict=False)
        ]
        return _from_block, (block, layout)

    def __copy__(self) -> "TensorBlock":
        return TensorBlock(self)


def _empty_block(size: int) -> Tensor:
    if get_worker_info() is None:
        return torch.empty(size, dtype=torch.uint8)
    # As PyTorch's own collation does it.
    storage = torch.UntypedStorage._new_shared(size, device="cpu")
    return torch.empty(0, dtype=torch.uint8).set_(storage)


def _part(block: Tensor, offset: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    size = dtype.itemsize
    for length in shape:
        size *= length
    return block[offset : offset + size].view(dtype).view(shape)


def _from_block(block: Tensor, layout: list[tuple[str, int, torch.dtype, tuple[int, ...]]]) -> TensorBlock:
    return TensorBlock((name, _part(block, offset, dtype, shape)) for name, offset, dtype, shape in layout)
