# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""SS-MESM's contrastive loss."""

from collections.abc import Callable

import pytest
import torch

from bench import candidates
from bench.kernel_cases import LARGEST_MATRIX_ON_CPU, LOSS_CASES, LossCase, LossData
from bench.truth import check_loss


@pytest.mark.parametrize("backend", candidates.LOSS_BACKENDS)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward+backward"])
@pytest.mark.parametrize("case", LOSS_CASES, ids=lambda case: case.name)
def test_loss(
    case: LossCase,
    backward: bool,
    backend: str,
    dtype: torch.dtype,
    device: torch.device,
    measure: Callable[..., None],
) -> None:
    if case.gpu_only and device.type == "cpu":
        pytest.skip(f"a matrix of N x N float32 numbers takes more than {LARGEST_MATRIX_ON_CPU >> 30} GiB")
    data = LossData(case, dtype, device)
    measure(
        "contrastive loss",
        case.name,
        backend,
        backward,
        lambda: candidates.loss(backend, data),
        lambda candidate: check_loss(candidate, case, backend, backward),
    )
