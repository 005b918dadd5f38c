# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import gc

import pytest
import torch

from bench.peak_memory import peak_memory

CPU = torch.device("cpu")
MEGABYTE = 2**20


def test_results_and_what_is_freed_count() -> None:
    x = torch.ones(MEGABYTE // 4)

    def run() -> torch.Tensor:
        doubled = x * 2
        halved = doubled / 2
        del doubled
        return halved + x

    # Two tensors are alive at a time, as one is freed before the third is made, and a few numbers.
    for _ in range(2):
        assert peak_memory(run, CPU) == pytest.approx(2 * MEGABYTE, abs=64)


def test_backward_pass_counts() -> None:
    x = torch.ones(MEGABYTE // 4, requires_grad=True)

    def run() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(x.exp(), x, x.detach())

    # exp keeps its output for the gradient, which is a second tensor.
    assert peak_memory(run, CPU) == 2 * MEGABYTE


def test_garbage_of_before_does_not_count() -> None:
    def keep() -> list[object]:
        # Refers to itself, so that only the garbage collector frees it.
        cycle: list[object] = [torch.ones(MEGABYTE // 4)]
        cycle.append(cycle)
        return cycle

    def run() -> torch.Tensor:
        gc.collect()
        return torch.ones(MEGABYTE // 4)

    peak_memory(keep, CPU)
    assert peak_memory(run, CPU) == MEGABYTE


def test_nothing() -> None:
    assert peak_memory(lambda: None, CPU) == 0
