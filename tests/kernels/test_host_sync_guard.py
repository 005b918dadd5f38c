# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.kernels.host_sync_guard import HostSyncError, host_sync_guard


def test_a_step_on_the_device_passes() -> None:
    with torch.device("meta"):
        module = nn.Linear(4, 3)
        x, mask, index = torch.randn(5, 4), torch.ones(5, 3, dtype=torch.bool), torch.zeros(2, dtype=torch.int64)
    with host_sync_guard():
        out = module(x).masked_fill(mask, 0.0)[index] * 2.0
        torch.where(out > 0, out, 0.0).sum().backward()
        assert module.weight.grad is not None


@pytest.mark.parametrize(
    "use",
    [
        lambda x: torch.ones(3).to("meta"),
        lambda x: torch.ones(()).to("meta"),
        lambda x: x.copy_(torch.ones(3)),
        lambda x: x.index_put_((x > 0,), x),
        lambda x: torch.tensor([1.0, 2.0], device="meta"),
        lambda x: torch.as_tensor([1.0, 2.0], device=x.device),
    ],
    ids=["to", "number", "copy_", "index_put_", "tensor", "as_tensor"],
)
def test_exchange_with_the_host_is_found(use: Callable[[Tensor], Any]) -> None:
    x = torch.ones(3, device="meta")
    with host_sync_guard(), pytest.raises(HostSyncError):
        use(x)


@pytest.mark.parametrize(
    "use",
    [Tensor.item, Tensor.tolist, Tensor.cpu, bool, torch.nonzero, lambda x: x[x > 0]],
    ids=["item", "tolist", "cpu", "bool", "nonzero", "mask"],
)
def test_reading_numbers_fails_on_the_meta_device(use: Callable[[Tensor], Any]) -> None:
    x = torch.ones(1, device="meta")
    with host_sync_guard(), pytest.raises((RuntimeError, NotImplementedError)):
        use(x)
