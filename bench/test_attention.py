# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Both directions of FW-MESM's cross-attention: the attention itself, and with its projections."""

from collections.abc import Callable

import pytest
import torch

from bench import candidates
from bench.kernel_cases import ATTENTION_CASES, AttentionCase, AttentionData
from bench.truth import check_attention, check_block

BACKWARD = pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward+backward"])


@pytest.mark.parametrize(
    ("case", "backend"),
    [
        pytest.param(case, backend, id=f"{case.name}-{backend}")
        for case in ATTENTION_CASES
        for backend in candidates.ATTENTION_BACKENDS
        # Packing saves nothing where all lengths are the same.
        if case.ragged or not backend.startswith("packed")
    ],
)
@BACKWARD
@pytest.mark.parametrize("dropout_p", [0.0, 0.1], ids=lambda p: f"dropout {p}")
def test_attention(
    case: AttentionCase,
    dropout_p: float,
    backward: bool,
    backend: str,
    dtype: torch.dtype,
    device: torch.device,
    measure: Callable[..., None],
) -> None:
    data = AttentionData(case, dtype, device)
    measure(
        f"attention, dropout {dropout_p}" if dropout_p else "attention",
        case.name,
        backend,
        backward,
        lambda: candidates.attention(backend, data, dropout_p),
        lambda candidate: check_attention(candidate, data, dropout_p, backend, backward),
    )


@pytest.mark.parametrize("backend", candidates.BLOCK_BACKENDS)
@BACKWARD
@pytest.mark.parametrize("case", ATTENTION_CASES, ids=lambda case: case.name)
def test_block(
    case: AttentionCase,
    backward: bool,
    backend: str,
    dtype: torch.dtype,
    device: torch.device,
    measure: Callable[..., None],
) -> None:
    data = AttentionData(case, dtype, device)
    measure(
        "attention with projections",
        case.name,
        backend,
        backward,
        lambda: candidates.block(backend, data),
        lambda candidate: check_block(candidate, data, backward),
    )
