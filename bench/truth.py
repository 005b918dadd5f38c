# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Checks what is to be measured against float64, so that nothing wrong is timed."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from bench.candidates import Candidate, block_function, shared_attention
from bench.kernel_cases import AttentionData, LossCase, LossData
from mesm_plugin.kernels.contrastive_loss import reference

ROWS_AT_ONCE = 1024
SEED = 1
# Places of the values among the inputs of the attention.
VALUES = (2, 5)


class WrongResultError(AssertionError):
    """A candidate computes something else."""


class Tolerance(NamedTuple):
    """Largest errors. `outputs` of the loss is absolute; all others are shares of the largest number."""

    outputs: float
    gradients: float


# The numerical contract of docs/kernels.md.
ATTENTION = {
    torch.float32: Tolerance(2e-6, 2e-6),
    torch.float16: Tolerance(1e-3, 1e-3),
    torch.bfloat16: Tolerance(8e-3, 8e-3),
}
LOSS = {
    torch.float32: Tolerance(2e-6, 2e-6),
    torch.float16: Tolerance(2e-6, 1.5e-3),
    torch.bfloat16: Tolerance(2e-6, 1e-2),
}


# PyTorch's own operators are allowed so many times the contract: in half precision they round logits and weights, too,
# which the kernels do not (1.8 times was seen), and in float32 they sum in other orders (1.2 times).
PLAIN = 4


def _tolerance(contract: dict[torch.dtype, Tolerance], dtype: torch.dtype, backend: str) -> Tolerance:
    factor = 1 if backend.endswith("triton") else PLAIN
    return Tolerance(*(factor * limit for limit in contract[dtype]))


class Truth(NamedTuple):
    """What a candidate must return; gradients in the order of its inputs and parameters."""

    outputs: list[Tensor]
    gradients: list[Tensor]


def _differentiate(outputs: Sequence[Tensor], inputs: Sequence[Tensor], upstream: Sequence[Tensor]) -> Truth:
    gradients = torch.autograd.grad(outputs, inputs, [x.double() for x in upstream])
    return Truth([x.detach() for x in outputs], list(gradients))


def attention_truth(data: AttentionData, dropout_p: float, kept: Sequence[Tensor | None]) -> Truth:
    """Both directions of the attention in float64.

    Args:
        data: The inputs.
        dropout_p: Share of the weights that is dropped.
        kept: (Q, H, Lv, Lw) and (Q, H, Lw, Lv) bool, the weights that are kept; None = all.
    """
    inputs = [x.detach().double().requires_grad_() for x in data.tensors]
    outputs = []
    for (query, key, value), mask, keep in zip((inputs[:3], inputs[3:]), data.masks, kept, strict=True):
        logits = torch.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
        weights = logits.masked_fill(~mask[:, None, None], -torch.inf).softmax(dim=-1)
        if keep is not None:
            weights = weights * keep / (1 - dropout_p)
        outputs.append(torch.einsum("bhqk,bkhd->bqhd", weights, value))
    return _differentiate(outputs, inputs, data.upstream)


def block_truth(data: AttentionData) -> Truth:
    """The block of projections and attention in float64, with the weights rounded as the candidates' are."""
    dtype, device = data.tensors[0].dtype, data.tensors[0].device
    module = shared_attention("reference", dtype, device).double()
    inputs = [x.detach().flatten(2).double().requires_grad_() for x in data.tensors]
    outputs = block_function(module, data)(*inputs)
    return _differentiate(outputs, [*inputs, *module.parameters()], [x.flatten(2) for x in data.upstream])


@cache
def loss_truth(case: LossCase, dtype: torch.dtype, device: torch.device) -> Truth:
    """The loss in float64, a few rows at a time: N x N float64 numbers would not fit into a GPU at the largest N."""
    data = LossData(case, dtype, device)
    inputs = [x.detach().double().requires_grad_() for x in data.features]
    moments = data.moments.double()
    tau = moments.new_full((), 0.5)
    total, gradients = moments.new_zeros(()), [torch.zeros_like(x) for x in inputs]
    for first in range(0, case.items, ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        loss = reference.contrast(
            inputs[0][rows], inputs[1], moments[rows], moments, None, None, tau, 0.9, 0.0, "iou", "log_sum", "sum"
        )
        total += loss.detach()
        for sum_, gradient in zip(gradients, torch.autograd.grad(loss, inputs), strict=True):
            sum_ += gradient
    return Truth([total / case.items], [x / case.items for x in gradients])


def _run(candidate: Candidate, inputs: Sequence[Tensor], backward: bool) -> tuple[Tensor, ...]:
    """The outputs, with the same random numbers every time."""
    torch.manual_seed(SEED)
    with torch.set_grad_enabled(backward):
        return candidate.function(*inputs)


def _worst(kind: str, found: Sequence[Tensor], truth: Sequence[Tensor], tolerance: float, relative: bool) -> float:
    """The largest error as a share of its tolerance; raises a WrongResultError where one is above it."""
    worst = 0.0
    for number, (actual, expected) in enumerate(zip(found, truth, strict=True)):
        if actual.shape != expected.shape:
            raise WrongResultError(f"{kind} {number} has shape {tuple(actual.shape)}, expected {tuple(expected.shape)}")
        error = float((actual.detach().double() - expected).abs().max())
        if relative:
            error /= float(expected.abs().max())
        # Not "greater": NaN is wrong.
        if not error <= tolerance:
            raise WrongResultError(f"{kind} {number} is off by {error:.2e}, of at most {tolerance:.0e} that is allowed")
        worst = max(worst, error / tolerance)
    return worst


def check(candidate: Candidate, truth: Truth, tolerance: Tolerance, backward: bool, relative: bool = True) -> float:
    """Compares outputs, and with `backward` gradients, with the truth.

    Args:
        candidate: What to check.
        truth: What it must return.
        tolerance: Largest errors.
        backward: Whether it is to be measured with its backward pass.
        relative: Whether the outputs' errors are shares of the largest number.

    Returns:
        The largest error as a share of its tolerance.

    Raises:
        WrongResultError: An error is above its tolerance, or is no number.
    """
    outputs = _run(candidate, candidate.inputs, backward)
    worst = _worst("output", outputs, truth.outputs, tolerance.outputs, relative)
    if not backward:
        return worst
    gradients = torch.autograd.grad(outputs, [*candidate.inputs, *candidate.parameters], candidate.upstream)
    return max(worst, _worst("gradient", gradients, truth.gradients, tolerance.gradients, relative=True))


def kept_weights(candidate: Candidate, data: AttentionData, packed: bool, backward: bool) -> list[Tensor]:
    """Which attention weights a candidate's dropout keeps under SEED.

    It is asked with one-hot values, which make the outputs equal to columns of the weights.

    Returns:
        (Q, H, Lv, Lw) and (Q, H, Lw, Lv) bool.
    """
    q_clips, _, v_words, q_words, _, v_clips = data.tensors
    pairs, _, heads, size = q_clips.shape
    kept = [
        torch.zeros(pairs, heads, query.shape[1], value.shape[1], dtype=torch.bool, device=query.device)
        for query, value in ((q_clips, v_words), (q_words, v_clips))
    ]
    for first in range(0, max(keep.shape[-1] for keep in kept), size):
        inputs = list(data.tensors)
        for i in VALUES:
            value = torch.zeros_like(inputs[i])
            columns = torch.arange(value.shape[1], device=value.device)[first : first + size]
            value[:, columns, :, columns - first] = 1
            inputs[i] = value
        if packed:
            inputs = [data.pack(x) for x in inputs]
        outputs = _run(candidate, [x.detach().requires_grad_() for x in inputs], backward)
        for output, keep, rows in zip(outputs, kept, (data.clip_rows, data.word_rows), strict=True):
            output = output.detach()
            if packed:
                padded = output.new_zeros(pairs * keep.shape[2], heads, size)
                output = padded.index_copy(0, rows, output).unflatten(0, (pairs, -1))
            part = keep[..., first : first + size]
            part.copy_(output.transpose(1, 2)[..., : part.shape[-1]] != 0)
    return kept


def check_keep_rate(kept: Tensor, valid: Tensor, dropout_p: float) -> None:
    """Raises a WrongResultError where more or fewer weights are kept than chance explains.

    Args:
        kept: (Q, H, L, K) bool.
        valid: (Q, L, K) bool, the weights that are not of padding.
        dropout_p: Share of the weights that should be dropped.
    """
    kept = kept.transpose(0, 1)[:, valid]
    count = kept.numel()
    rate = float(kept.sum()) / count
    deviation = (dropout_p * (1 - dropout_p) / count) ** 0.5
    if abs(rate - (1 - dropout_p)) > 4 * deviation:
        raise WrongResultError(f"{rate:.5f} of {count} attention weights are kept, expected {1 - dropout_p:.5f}")


def check_attention(candidate: Candidate, data: AttentionData, dropout_p: float, backend: str, backward: bool) -> float:
    """`check` of the attention by `backend`, whatever random numbers decide what its dropout keeps."""
    packed = backend.startswith("packed")
    kept: list[Tensor] | list[None] = [None, None]
    if dropout_p > 0:
        kept = kept_weights(candidate, data, packed, backward)
        for keep, query_mask, mask in zip(kept, data.query_masks, data.masks, strict=True):
            check_keep_rate(keep, query_mask[:, :, None] & mask[:, None], dropout_p)
    truth = attention_truth(data, dropout_p, kept)
    if packed:
        truth = Truth([data.pack(x) for x in truth.outputs], [data.pack(x) for x in truth.gradients])
    return check(candidate, truth, _tolerance(ATTENTION, data.tensors[0].dtype, backend), backward)


def check_block(candidate: Candidate, data: AttentionData, backward: bool) -> float:
    """`check` of the block of projections and attention, whose projections are PyTorch's with every backend."""
    return check(candidate, block_truth(data), _tolerance(ATTENTION, data.tensors[0].dtype, "plain"), backward)


def check_loss(candidate: Candidate, case: LossCase, backend: str, backward: bool) -> float:
    """`check` of the loss by `backend`."""
    dtype, device = candidate.inputs[0].dtype, candidate.inputs[0].device
    tolerance = _tolerance(LOSS, dtype, backend)
    return check(candidate, loss_truth(case, dtype, device), tolerance, backward, relative=False)
