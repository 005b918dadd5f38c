# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The formulas of bytes equal what the interpreter counts."""

from collections import Counter

import pytest
import torch

from bench.gpus import GPUS
from bench.roofline import Work, attention_work, loss_work, workloads
from mesm_plugin.kernels import bidirectional_cross_attention, iou_positive_contrastive_loss
from mesm_plugin.kernels.contrastive_loss import operator as contrastive_loss
from mesm_plugin.kernels.cross_attention import operator as cross_attention
from mesm_plugin.kernels.specialisation import Precision
from tests.kernels.interpreter_checks import Checks, checked

pytest.importorskip("triton")


def features(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


def bytes_of(checks: Checks, kernel: str, endings: tuple[str, ...]) -> int:
    """Bytes of a kernel on arguments with such names."""
    moved: Counter[str] = checks.loaded[kernel] + checks.stored[kernel]
    return sum(count for name, count in moved.items() if name.endswith(endings))


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("fp16", torch.float16)])
def test_attention(precision: Precision, dtype: torch.dtype, interpreter: torch.device) -> None:
    # 300 clips: a second chunk of the forward pass.
    problems, clips, words, heads, channels = 1, 300, 5, 1, 16
    wide = [features(problems, length, heads, channels, dtype=dtype) for length in (clips, words, words)]
    narrow = [features(problems, length, heads, channels, dtype=dtype) for length in (words, clips, clips)]
    masks = [torch.ones(problems, length, dtype=torch.bool) for length in (words, clips)]
    with checked() as checks:
        out = bidirectional_cross_attention(*wide, masks[0], *narrow, masks[1], backend="triton")
        (out[0].sum() + out[1].sum()).backward()
    for kernel in (cross_attention.FORWARD, cross_attention.BACKWARD):
        work = attention_work(kernel, "sm_80", precision, problems, clips, words, heads, channels)
        assert bytes_of(checks, kernel, ("_query", "_key", "_value", "_out", "_unrounded")) == work.bytes
        assert work.bytes >= work.least_bytes
        assert work.flops >= work.least_flops
    assert work.least_flops == 2 * 5 * 2 * problems * heads * clips * words * channels


def test_loss(interpreter: torch.device) -> None:
    count, channels = 70, 160
    text, segment = features(count, channels), features(count, channels)
    moments = torch.tensor([[0.0, 1.0]]).repeat(count, 1)
    with checked() as checks:
        iou_positive_contrastive_loss(text, segment, moments, backend="triton").backward()
    for kernel in (contrastive_loss.FORWARD, contrastive_loss.BACKWARD):
        work = loss_work(kernel, "sm_80", "fp32", count, channels)
        assert bytes_of(checks, kernel, ("rows", "columns")) == work.bytes
    assert work.least_flops == 2 * 3 * count**2 * channels


def test_estimate_takes_the_slower_of_bytes_and_operations() -> None:
    specialisation = contrastive_loss.specialise(contrastive_loss.FORWARD, "sm_86", "fp16", giou=False, log_sum=True)
    gpu = GPUS["sm_86"]
    assert Work(specialisation, 10, 936_000_000, 0, 0).seconds(gpu) == pytest.approx(1e-3)
    assert Work(specialisation, 10, 10, 71_000_000_000, 0).seconds(gpu) == pytest.approx(1e-3)


def test_workloads_of_each_architecture() -> None:
    for architecture in GPUS:
        for launches in workloads(architecture, "fp16").values():
            assert all(0 < work.least_bytes <= work.bytes for work in launches)
            assert all(0 < work.least_flops <= work.flops for work in launches)
