# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Means over the batches of all processes."""

import torch.distributed as dist
from torch import Tensor


def joint_mean(total: Tensor, count: Tensor | int) -> Tensor:
    """`total / count`, so that the mean of the results over all processes is the mean over their joined batches.

    DistributedDataParallel averages gradients over the processes. With a mean over the batch of each, a sample in a
    small batch would weigh more than one in a large batch. All processes have to call this equally often.

    Args:
        total: Scalar sum over what this process has.
        count: How many that are; 0 counts as 1 if no process has any.

    Returns:
        A scalar.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return total / (count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1))
    # A tensor made of a number would be copied to the device, and the host would wait for that.
    everywhere = count.to(total.dtype, copy=True) if isinstance(count, Tensor) else total.new_full((), count)
    dist.all_reduce(everywhere)
    return total * (dist.get_world_size() / everywhere.clamp(min=1))
