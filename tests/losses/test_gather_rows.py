# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Rows and gradients go between processes whatever each of them has."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.process_group import in_process_group
from mesm_plugin.losses.gather_rows import gather_rows

PROCESSES = 3
EVERYWHERE = (True,) * PROCESSES
# Rows in each process, which of them need gradients for the first two tensors, and the dtype of the first.
CASES: dict[str, tuple[tuple[int, ...], tuple[bool, ...], tuple[bool, ...], torch.dtype]] = {
    "as many everywhere": ((2, 2, 2), EVERYWHERE, EVERYWHERE, torch.float32),
    "none in one process": ((3, 0, 2), EVERYWHERE, EVERYWHERE, torch.float32),
    "none in all but one": ((0, 0, 4), EVERYWHERE, EVERYWHERE, torch.float32),
    "none anywhere": ((0, 0, 0), EVERYWHERE, EVERYWHERE, torch.float32),
    "gradients in some": ((1, 4, 2), (True, False, True), (False, False, True), torch.float32),
    "gradients of one tensor": ((1, 4, 2), (False, True, False), (False, False, False), torch.float32),
    "gradients nowhere": ((1, 4, 2), (False, False, False), (False, False, False), torch.float32),
    "float16": ((1, 4, 2), EVERYWHERE, EVERYWHERE, torch.float16),
    "bfloat16": ((1, 4, 2), EVERYWHERE, EVERYWHERE, torch.bfloat16),
    "float64 beside float32": ((1, 4, 2), EVERYWHERE, EVERYWHERE, torch.float64),
}


def rows_of(rank: int, case: str) -> list[Tensor]:
    """(n, 4) not contiguous, (n,), (n, 2, 3) expanded and (n,) bool."""
    counts, *_, dtype = CASES[case]
    generator = torch.Generator().manual_seed(rank)
    count = counts[rank]
    first = torch.randn(4, count, generator=generator).to(dtype).T
    second = torch.randn(count, 2, generator=generator)[:, 1]
    third = torch.randn(count, 1, 3, generator=generator).expand(-1, 2, -1)
    return [first, second, third, torch.arange(count) % 2 == rank % 2]


def work(rank: int, folder: str) -> None:
    results = {}
    for case, (_, first, second, _) in CASES.items():
        tensors = rows_of(rank, case)
        leaves = [tensors[0].requires_grad_(first[rank]), tensors[1].requires_grad_(second[rank])]
        gathered = gather_rows(*tensors)
        total = torch.stack([(x.double() ** 2).sum() * (rank + 1) for x in gathered[:2]]).sum()
        if total.requires_grad:
            total.backward()
        with torch.no_grad():
            again = gather_rows(*tensors)
        assert not any(x.requires_grad for x in again)
        results[case] = {
            "rows": [x.detach() for x in gathered],
            "gradients": [x.grad for x in leaves],
            "needed": [x.requires_grad for x in gathered],
        }
    torch.save(results, f"{folder}/{rank}.pth")


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> list[dict[str, dict[str, Any]]]:
    folder: Path = tmp_path_factory.mktemp("rows")
    in_process_group(work, PROCESSES, str(folder))
    return [torch.load(folder / f"{rank}.pth") for rank in range(PROCESSES)]


@pytest.mark.parametrize("case", CASES)
def test_rows(results, case):
    expected = [torch.cat(tensors) for tensors in zip(*(rows_of(rank, case) for rank in range(PROCESSES)), strict=True)]
    for result in results:
        for rows, wanted in zip(result[case]["rows"], expected, strict=True):
            assert rows.dtype == wanted.dtype
            assert torch.equal(rows, wanted)


@pytest.mark.parametrize("case", CASES)
def test_gradients(results, case):
    needed = CASES[case][1:3]
    for rank, result in enumerate(results):
        assert result[case]["needed"] == [any(needed[0]), any(needed[1]), False, False]
        for gradient, own, tensor in zip(result[case]["gradients"], needed, rows_of(rank, case), strict=False):
            if not own[rank]:
                assert gradient is None
                continue
            assert gradient.dtype == tensor.dtype
            # The weights are 1, 2 and 3.
            torch.testing.assert_close(gradient, 12 * tensor)
