# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bench import candidates
from bench.candidates import Candidate
from bench.kernel_cases import AttentionCase, AttentionData, LossCase, LossData
from bench.truth import (
    WrongResultError,
    attention_truth,
    check_attention,
    check_block,
    check_keep_rate,
    check_loss,
    kept_weights,
)
from mesm_plugin.kernels import bidirectional_cross_attention
from mesm_plugin.kernels.backend import TRITON_IS_INSTALLED, interpreting
from mesm_plugin.kernels.cross_attention.reference import attend
from mesm_plugin.kernels.philox import attention_dropout

CASE = AttentionCase("Q2 12-40 x 3-6", (40, 12), (6, 3))
LOSS = LossCase(48)
CPU = torch.device("cpu")


@pytest.fixture
def data() -> AttentionData:
    return AttentionData(CASE, torch.float32, CPU)


def changed(candidate: Candidate, factor: float) -> Candidate:
    """A candidate whose first output is off by a factor."""

    def function(*inputs: Tensor) -> tuple[Tensor, ...]:
        first, *others = candidate.function(*inputs)
        return (first * factor, *others)

    return replace(candidate, function=function)


def with_wrong_gradient(candidate: Candidate, factor: float) -> Candidate:
    """A candidate whose outputs are right and whose gradient of the first input is off by a factor."""

    def function(first: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        return candidate.function(first * factor + (first * (1 - factor)).detach(), *others)

    return replace(candidate, function=function)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("dropout_p", [0.0, 0.1])
@pytest.mark.parametrize("backend", ["reference", "sdpa", "packed reference"])
def test_attention_is_right(data: AttentionData, backend: str, dropout_p: float, backward: bool) -> None:
    candidate = candidates.attention(backend, data, dropout_p)
    assert 0 < check_attention(candidate, data, dropout_p, backend, backward) < 1


@pytest.mark.parametrize("backend", ["triton", "packed triton"])
def test_triton_is_right(backend: str) -> None:
    if not TRITON_IS_INSTALLED or not interpreting():
        pytest.skip("Triton's interpreter is off, or Triton is not installed")
    data = AttentionData(AttentionCase("Q2 7-11 x 2-3", (11, 7), (2, 3)), torch.float32, CPU)
    candidate = candidates.attention(backend, data, 0.1)
    assert 0 < check_attention(candidate, data, 0.1, backend, backward=True) < 1


@pytest.mark.parametrize("backend", ["two modules", "two modules, no weights", "reference"])
def test_block_is_right(data: AttentionData, backend: str) -> None:
    assert 0 < check_block(candidates.block(backend, data), data, backward=True) < 1


def test_loss_is_right() -> None:
    candidate = candidates.loss("reference", LossData(LOSS, torch.float32, CPU))
    assert 0 < check_loss(candidate, LOSS, "reference", backward=True) < 1


def test_loss_is_summed_over_chunks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.truth.ROWS_AT_ONCE", 5)
    # Its own size: truths are kept.
    case = LossCase(47)
    candidate = candidates.loss("reference", LossData(case, torch.float64, CPU))
    monkeypatch.setattr("bench.truth.LOSS", {torch.float64: (1e-14, 1e-14)})
    assert check_loss(candidate, case, "reference", backward=True) < 1


@pytest.mark.parametrize("wrong", [changed, with_wrong_gradient])
def test_small_errors_are_found(data: AttentionData, wrong) -> None:  # type: ignore[no-untyped-def]
    kind = "output 0" if wrong is changed else "gradient 0"
    candidate = candidates.attention("reference", data, 0.0)
    with pytest.raises(WrongResultError, match=f"{kind} is off by (9.9.e-06|1.0.e-05), of at most 8e-06"):
        check_attention(wrong(candidate, 1.00001), data, 0.0, "reference", backward=True)
    with pytest.raises(WrongResultError, match=f"{kind} is off by [45]...e-06, of at most 2e-06"):
        check_attention(wrong(candidate, 1.000005), data, 0.0, "triton", backward=True)
    with pytest.raises(WrongResultError, match=f"{kind} is off by"):
        check_block(wrong(candidates.block("reference", data), 1.0001), data, backward=True)
    loss = candidates.loss("reference", LossData(LOSS, torch.float32, CPU))
    with pytest.raises(WrongResultError, match=f"{kind} is off by"):
        check_loss(wrong(loss, 1.0001), LOSS, "reference", backward=True)


def test_nan_is_wrong(data: AttentionData) -> None:
    candidate = changed(candidates.attention("reference", data, 0.0), torch.nan)
    with pytest.raises(WrongResultError, match="output 0 is off by nan"):
        check_attention(candidate, data, 0.0, "reference", backward=False)


def test_wrong_dropout_is_found(data: AttentionData) -> None:
    with pytest.raises(WrongResultError, match="attention weights are kept, expected 0.90000"):
        check_attention(candidates.attention("reference", data, 0.3), data, 0.1, "reference", backward=False)
    # The right share is kept, but not scaled up.
    scaled = changed(candidates.attention("reference", data, 0.1), 0.9)
    with pytest.raises(WrongResultError, match="output 0 is off by"):
        check_attention(scaled, data, 0.1, "reference", backward=False)


def test_other_weights_dropped_in_the_backward_pass_are_found(data: AttentionData) -> None:
    candidate = candidates.attention("reference", data, 0.1)

    def function(*inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = candidate.function(*inputs)
        torch.manual_seed(3)
        others = candidate.function(*inputs)
        return tuple(other + (output - other).detach() for output, other in zip(outputs, others, strict=True))

    with pytest.raises(WrongResultError, match="gradient 0 is off by"):
        check_attention(replace(candidate, function=function), data, 0.1, "reference", backward=True)


def test_kept_weights_are_those_of_the_seed(data: AttentionData) -> None:
    seed = torch.tensor(5)

    def function(
        q_clips: Tensor, k_words: Tensor, v_words: Tensor, q_words: Tensor, k_clips: Tensor, v_clips: Tensor
    ) -> tuple[Tensor, ...]:
        words_mask, clips_mask = data.masks
        return bidirectional_cross_attention(
            q_clips, k_words, v_words, words_mask, q_words, k_clips, v_clips, clips_mask,
            dropout_p=0.1, seed=seed, backend="reference",
        )  # fmt: skip

    candidate = Candidate(function, data.tensors, data.upstream)
    clips, words = kept_weights(candidate, data, packed=False, backward=False)
    expected = attention_dropout(seed, 0.1, 0, *clips.shape), attention_dropout(seed, 0.1, 2, *words.shape)
    for kept, drawn, mask in zip((clips, words), expected, data.masks, strict=True):
        assert torch.equal(kept, drawn & mask[:, None, None])


def test_keep_rate() -> None:
    kept = torch.ones(1, 1, 100, 100, dtype=torch.bool)
    kept.view(-1)[:1000] = False
    valid = torch.ones(1, 100, 100, dtype=torch.bool)
    check_keep_rate(kept, valid, 0.1)
    # Four standard deviations are 120 of 10000.
    kept.view(-1)[:1125] = False
    with pytest.raises(WrongResultError, match="0.88750 of 10000 attention weights are kept, expected 0.90000"):
        check_keep_rate(kept, valid, 0.1)


def test_truth_is_the_reference(data: AttentionData) -> None:
    truth = attention_truth(data, 0.0, [None, None])
    for output, inputs, mask in zip(truth.outputs, (data.tensors[:3], data.tensors[3:]), data.masks, strict=True):
        query, key, value = (x.double() for x in inputs)
        torch.testing.assert_close(output, attend(query, key, value, mask, 32**-0.5), rtol=1e-12, atol=1e-14)
