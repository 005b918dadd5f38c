# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The Triton kernels of the contrastive loss as PyTorch operators."""

from typing import Any

import torch
from torch import Tensor

from mesm_plugin.kernels.backend import check_device
from mesm_plugin.kernels.contrastive_loss.reference import positive_threshold
from mesm_plugin.kernels.specialisation import (
    Precision,
    Specialisation,
    architecture_of,
    emulates_bf16,
    numeric_constants,
    precision_of,
)
from mesm_plugin.kernels.tiles import CONTRASTIVE_LOSS, find_tile

FORWARD = "contrastive_loss_forward"
MERGE = "contrastive_loss_merge"
BACKWARD = "contrastive_loss_backward"
# Numbers of parts that the columns can be split in, and how many programs are enough for a GPU.
SPLITS = (1, 4, 16)
ENOUGH_PROGRAMS = 128
# Partial sums that a step of the merge takes in.
MERGED = 4096


def specialise(
    kernel: str,
    architecture: str,
    precision: Precision,
    giou: bool,
    log_sum: bool,
    emulate_bf16: bool = False,
) -> Specialisation:
    """The compiled form of a kernel, FORWARD or BACKWARD, for a case."""
    tile = find_tile(
        CONTRASTIVE_LOSS,
        kernel="forward" if kernel == FORWARD else "backward",
        architecture=architecture,
        precision=precision,
    )
    constants = {"GIOU": giou, "LOG_SUM": log_sum, **numeric_constants(precision, emulate_bf16)}
    if kernel == FORWARD:
        constants |= {"BLOCK_ROWS": tile.rows, "BLOCK_COLUMNS": tile.columns, "BLOCK_CHANNELS": tile.channels}
    else:
        constants |= {
            "BLOCK_OWN": tile.rows,
            "BLOCK_OTHER": tile.columns,
            "BLOCK_CHANNELS": tile.channels,
            "BLOCK_PART": tile.part,
        }
    return Specialisation(kernel, precision, constants, tile.warps, tile.stages)


def specialise_merge(precision: Precision, log_sum: bool, splits: int) -> Specialisation:
    """The compiled form of MERGE, whose partial sums are float32, or float64 with "fp64"."""
    constants = {
        "LOG_SUM": log_sum,
        "SPLITS": splits,
        "BLOCK_ROWS": MERGED // splits,
        "ACCUMULATOR": numeric_constants(precision)["ACCUMULATOR"],
    }
    return Specialisation(MERGE, "fp64" if precision == "fp64" else "fp32", constants, num_warps=8, num_stages=1)


def specialisations(architecture: str) -> list[Specialisation]:
    """Every compiled form that a launch on a GPU of `architecture` can choose."""
    precisions: tuple[Precision, ...] = ("fp16", "bf16", "fp32")
    if architecture.startswith("sm_"):
        precisions += ("tf32",)
    forms = [
        specialise(kernel, architecture, precision, giou, log_sum)
        for kernel in (FORWARD, BACKWARD)
        for precision in precisions
        for giou in (False, True)
        for log_sum in (False, True)
    ]
    return forms + [specialise_merge("fp32", log_sum, splits) for log_sum in (False, True) for splits in SPLITS]


def argument_types(kernel: str, precision: Precision) -> dict[str, str]:
    """Triton's types of the arguments of a kernel that are no constants."""
    from mesm_plugin.kernels.contrastive_loss import triton_kernels

    features = "*fp32" if precision == "tf32" else f"*{precision}"
    sums = "*fp64" if precision == "fp64" else "*fp32"
    types = {}
    for name in getattr(triton_kernels, kernel).arg_names:
        if name.isupper():  # a constant
            continue
        if name in ("rows", "columns", "grad_rows", "grad_columns"):
            types[name] = features
        elif name in ("row_group", "column_group"):
            types[name] = "*i64"
        elif name in ("threshold", "eps"):
            types[name] = "fp32"
        elif name in ("row_step", "column_step", "channels", "grouped", "divisor", "per_row") or name.startswith(
            "num_"
        ):
            types[name] = "i32"
        else:
            types[name] = sums
    return types


def _aligned(features: Tensor) -> Tensor:
    """The features, or a copy padded with zeros where their rows do not start or end where the widest loads can."""
    count, channels = features.shape
    dense = features.stride(1) == 1 and (count == 1 or features.stride(0) % 16 == 0)
    if dense and channels % 16 == 0 and features.data_ptr() % 16 == 0:
        return features
    padded = features.new_zeros(count, -(-channels // 16) * 16)
    padded[:, :channels] = features
    return padded


def _step(features: Tensor) -> int:
    # The stride of a single row can be anything; a zero keeps the kernel's specialisation.
    return features.stride(0) if features.shape[0] > 1 else 0


def _arguments(
    rows: Tensor,
    columns: Tensor,
    row_moments: Tensor,
    column_moments: Tensor,
    row_group: Tensor | None,
    column_group: Tensor | None,
    tau: Tensor,
    gamma: float,
    iou: str,
) -> dict[str, Any]:
    """The arguments that the kernels of both passes have; `rows` and `columns` are aligned."""
    nothing = rows.new_empty(0, dtype=torch.int64)
    return {
        "rows": rows,
        "columns": columns,
        "row_moments": row_moments.contiguous(),
        "column_moments": column_moments.contiguous(),
        "row_group": nothing if row_group is None else row_group.contiguous(),
        "column_group": nothing if column_group is None else column_group.contiguous(),
        "tau": tau,
        "row_step": _step(rows),
        "column_step": _step(columns),
        "channels": rows.shape[1],
        "num_rows": rows.shape[0],
        "num_columns": columns.shape[0],
        "grouped": int(row_group is not None),
        "threshold": positive_threshold(gamma, iou),
    }


def _specialise_for(kernel: str, rows: Tensor, iou: str, form: str) -> Specialisation:
    device = rows.device
    return specialise(
        kernel,
        architecture_of(device),
        precision_of(rows.dtype, device),
        iou == "giou",
        form == "log_sum",
        emulates_bf16(rows.dtype),
    )


def number_of_splits(row_tiles: int, column_tiles: int) -> int:
    """Parts that the columns of the forward pass are split in: enough to fill a GPU, and none without a tile."""
    wanted = next((splits for splits in SPLITS if row_tiles * splits >= ENOUGH_PROGRAMS), SPLITS[-1])
    return max(splits for splits in SPLITS if splits <= max(1, min(wanted, column_tiles)))


@torch.library.custom_op("mesm_plugin::contrastive_loss", mutates_args=())
def contrast(
    rows: Tensor,
    columns: Tensor,
    row_moments: Tensor,
    column_moments: Tensor,
    row_group: Tensor | None,
    column_group: Tensor | None,
    tau: Tensor,
    gamma: float,
    eps: float,
    iou: str,
    form: str,
    reduction: str,
) -> tuple[Tensor, Tensor]:
    """The loss by two launches; arguments as of `reference.contrast`.

    Returns:
        The loss, and the statistics of each row (4, N) that the backward pass needs (see triton_kernels.py), both in
        the dtype of `tau`.
    """
    loss, statistics = _empty_outputs(rows, tau, reduction)
    num_rows, num_columns = rows.shape[0], columns.shape[0]
    if num_rows == 0 or num_columns == 0:
        return loss.zero_(), statistics.zero_()
    check_device(rows.device)
    from mesm_plugin.kernels.contrastive_loss import triton_kernels

    arguments = _arguments(
        _aligned(rows), _aligned(columns), row_moments, column_moments, row_group, column_group, tau, gamma, iou
    )
    forward = _specialise_for(FORWARD, rows, iou, form)
    row_tiles = -(-num_rows // forward.constants["BLOCK_ROWS"])
    splits = number_of_splits(row_tiles, -(-num_columns // forward.constants["BLOCK_COLUMNS"]))
    merge = specialise_merge(forward.precision, form == "log_sum", splits)
    partials = statistics.new_empty(4, splits, num_rows)
    with torch.cuda.device_of(rows):
        getattr(triton_kernels, forward.kernel)[(row_tiles, splits)](
            **arguments, partials=partials, **forward.options()
        )
        getattr(triton_kernels, merge.kernel)[(1,)](
            partials=partials,
            statistics=statistics,
            loss=loss,
            num_rows=num_rows,
            divisor=num_rows if reduction == "mean" else 1,
            per_row=int(reduction == "none"),
            eps=eps,
            **merge.options(),
        )
    return loss, statistics


def _empty_outputs(rows: Tensor, tau: Tensor, reduction: str) -> tuple[Tensor, Tensor]:
    count = rows.shape[0]
    return tau.new_empty(count if reduction == "none" else ()), tau.new_empty(4, count)


@contrast.register_fake
def _(
    rows: Tensor,
    columns: Tensor,
    row_moments: Tensor,
    column_moments: Tensor,
    row_group: Tensor | None,
    column_group: Tensor | None,
    tau: Tensor,
    gamma: float,
    eps: float,
    iou: str,
    form: str,
    reduction: str,
) -> tuple[Tensor, Tensor]:
    return _empty_outputs(rows, tau, reduction)


@torch.library.custom_op("mesm_plugin::contrastive_loss_backward", mutates_args=())
def differentiate(
    rows: Tensor,
    columns: Tensor,
    row_moments: Tensor,
    column_moments: Tensor,
    row_group: Tensor | None,
    column_group: Tensor | None,
    tau: Tensor,
    gamma: float,
    iou: str,
    form: str,
    reduction: str,
    statistics: Tensor,
    grad_loss: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of rows and columns, and of tau as one summand per row, (N,), by one launch.

    Args:
        rows, columns, row_moments, column_moments, row_group, column_group, tau, gamma, iou, form, reduction: As given
            to `contrast`.
        statistics: As returned by it.
        grad_loss: Gradient of the loss.
    """
    grad_rows, grad_columns, grad_tau = _empty_grads(rows, columns, tau)
    num_rows, num_columns = rows.shape[0], columns.shape[0]
    if num_rows == 0 or num_columns == 0 or rows.shape[1] == 0:
        return grad_rows.zero_(), grad_columns.zero_(), grad_tau.zero_()
    check_device(rows.device)
    from mesm_plugin.kernels.contrastive_loss import triton_kernels

    if reduction == "none":
        # As for the mean, what can be tiny is applied last: the rows' weights are at most 1.
        largest = grad_loss.abs().amax().clamp(min=torch.finfo(grad_loss.dtype).tiny)
        statistics = statistics.clone()
        statistics[1::2] *= grad_loss / largest
        grad_loss = largest
    own_rows, own_columns = _aligned(rows), _aligned(columns)
    arguments = _arguments(own_rows, own_columns, row_moments, column_moments, row_group, column_group, tau, gamma, iou)
    padded = own_rows.shape[1] != rows.shape[1]
    if padded:
        grad_rows, grad_columns = grad_rows.new_empty(own_rows.shape), grad_columns.new_empty(own_columns.shape)
    backward = _specialise_for(BACKWARD, rows, iou, form)
    tiles = sum(-(-count // backward.constants["BLOCK_OWN"]) for count in (num_rows, num_columns))
    parts = -(-own_rows.shape[1] // backward.constants["BLOCK_PART"])
    with torch.cuda.device_of(rows):
        getattr(triton_kernels, backward.kernel)[(tiles * parts,)](
            **arguments,
            statistics=statistics,
            grad_loss=grad_loss,
            grad_rows=grad_rows,
            grad_columns=grad_columns,
            grad_tau=grad_tau,
            divisor=num_rows if reduction == "mean" else 1,
            **backward.options(),
        )
    if padded:
        channels = rows.shape[1]
        grad_rows, grad_columns = grad_rows[:, :channels].contiguous(), grad_columns[:, :channels].contiguous()
    return grad_rows, grad_columns, grad_tau


def _empty_grads(rows: Tensor, columns: Tensor, tau: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return rows.new_empty(rows.shape), columns.new_empty(columns.shape), tau.new_empty(rows.shape[0])


@differentiate.register_fake
def _(
    rows: Tensor,
    columns: Tensor,
    row_moments: Tensor,
    column_moments: Tensor,
    row_group: Tensor | None,
    column_group: Tensor | None,
    tau: Tensor,
    gamma: float,
    iou: str,
    form: str,
    reduction: str,
    statistics: Tensor,
    grad_loss: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_grads(rows, columns, tau)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.gamma, _, ctx.iou, ctx.form, ctx.reduction = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, output[1])


def _backward(ctx: Any, grad_loss: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad_loss is None:
        return (None,) * 12
    *inputs, statistics = ctx.saved_tensors
    options = (ctx.gamma, ctx.iou, ctx.form, ctx.reduction)
    grad_rows, grad_columns, grad_tau = differentiate(*inputs, *options, statistics, grad_loss)
    summed = grad_tau.sum() if ctx.needs_input_grad[6] else None
    return grad_rows, grad_columns, *[None] * 4, summed, *[None] * 5


contrast.register_autograd(_backward, setup_context=_setup_context)
# Features may come in half precision; logits, temperature and moments are not computed in it.
contrast.register_autocast("cuda", torch.float32)
contrast.register_autocast("cpu", torch.float32)
