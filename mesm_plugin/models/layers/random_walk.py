# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Random walk between the items of a sequence and prototypes (UVCOM)."""

import torch
import torch.nn.functional as F
from torch import Tensor

_SHARPNESS = 5.0


def random_walk(x: Tensor, prototypes: Tensor, mask: Tensor, step: float = 0.5, exact: bool = True) -> Tensor:
    """Where a random walk leads that goes from items to prototypes and back, and starts anew at the items.

    With S the share that each prototype has in each item, M its rows scaled to sum 1, and w the step, the walk settles
    at (1 - w) (I - w^2 S'M)^-1 (w S'prototypes + x). The inverse takes a system of K equations.

    Args:
        x: (B, L, D).
        prototypes: (B, K, D).
        mask: (B, L) bool, True = an item that is walked through.
        step: w, probability to go on.
        exact: Whether the inverse is one. In Lighthouse's code of UVCOM the arguments of the solver are swapped, so
            that the matrix itself stands in its place.

    Returns:
        (B, L, D).
    """
    cosine = F.normalize(prototypes, dim=-1) @ F.normalize(x, dim=-1).transpose(1, 2)
    share = (cosine * _SHARPNESS).softmax(dim=1).masked_fill(~mask[:, None], 0.0)
    mean = share / (share.sum(dim=2, keepdim=True) + 1e-9)
    back = share.transpose(1, 2)
    start = step * back @ prototypes + x
    pooled = mean @ start
    if exact:
        # Solvers know no half precision.
        solved = torch.promote_types(x.dtype, torch.float32)
        system = torch.eye(len(share[0]), dtype=solved, device=x.device) - step**2 * mean @ back
        # `solve_ex` does not wait for the device to say whether the matrix is singular; with w < 1 it is not.
        pooled = -torch.linalg.solve_ex(system, pooled.to(solved)).result
    return (1 - step) * (start - step**2 * back @ pooled)
