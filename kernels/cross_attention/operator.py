# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The Triton kernels of the bidirectional cross-attention as PyTorch operators."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mesm_plugin.kernels.backend import check_device
from mesm_plugin.kernels.philox import threshold
from mesm_plugin.kernels.specialisation import (
    Precision,
    Specialisation,
    architecture_of,
    emulates_bf16,
    numeric_constants,
    precision_of,
)
from mesm_plugin.kernels.tiles import CROSS_ATTENTION, find_tile

HEAD_SIZES = (16, 32, 64)
# Sizes that the short side is rounded up to: the last one is the longest that the kernels take.
SHORT_TILES = (16, 32, 64)
# Queries that a program of the forward pass handles, in tiles: keys are read again only once per so many rows.
ROWS = 128
FORWARD = "bidirectional_cross_attention_forward"
BACKWARD = "bidirectional_cross_attention_backward"
LOG2_E = math.log2(math.e)


def specialise(
    kernel: str,
    architecture: str,
    precision: Precision,
    short: int,
    head_size: int,
    dropout: bool,
    emulate_bf16: bool = False,
) -> Specialisation:
    """The compiled form of a kernel, FORWARD or BACKWARD, for a case."""
    tile = find_tile(
        CROSS_ATTENTION,
        kernel="forward" if kernel == FORWARD else "backward",
        architecture=architecture,
        precision=precision,
        short=short,
        head_size=head_size,
        dropout=dropout,
    )
    constants = {
        "HEAD_SIZE": head_size,
        "BLOCK_SHORT": short,
        "BLOCK_LONG": tile.rows,
        "DROPOUT": dropout,
        **numeric_constants(precision, emulate_bf16),
    }
    if kernel == FORWARD:
        constants["TILES"] = max(1, ROWS // tile.rows)
    registers = tile.registers if architecture.startswith("sm_") and tile.registers else None
    return Specialisation(kernel, precision, constants, tile.warps, tile.stages, registers)


def specialisations(architecture: str) -> list[Specialisation]:
    """Every compiled form that a launch on a GPU of `architecture` can choose."""
    precisions: tuple[Precision, ...] = ("fp16", "bf16", "fp32")
    if architecture.startswith("sm_"):
        precisions += ("tf32",)
    return [
        specialise(kernel, architecture, precision, short, head_size, dropout)
        for kernel in (FORWARD, BACKWARD)
        for precision in precisions
        for head_size in HEAD_SIZES
        for short in SHORT_TILES
        for dropout in (False, True)
    ]


def argument_types(kernel: str, precision: Precision) -> dict[str, str]:
    """Triton's types of the arguments of a kernel that are no constants."""
    from mesm_plugin.kernels.cross_attention import triton_kernels

    element = "*fp32" if precision == "tf32" else f"*{precision}"
    types = {}
    for name in getattr(triton_kernels, kernel).arg_names:
        if name.isupper():  # a constant
            continue
        if name.endswith("_mask"):
            types[name] = "*u8"
        elif name.endswith("_table"):
            types[name] = "*i32"
        elif name.endswith(("_unrounded", "_log_sum")):
            types[name] = "*fp32"
        elif name == "seed_pointer":
            types[name] = "*i64"
        elif name in ("factor", "scale", "scale_log2"):
            types[name] = "fp32"
        elif name.endswith(("_query", "_key", "_value", "_out")):
            types[name] = element
        else:
            types[name] = "i32"
    return types


class Direction(NamedTuple):
    """One direction of the attention: B problems of Lq queries and Lk keys, or packed rows and a table of problems.

    Args:
        query: (B, Lq, H, d), or (Rq, H, d) with `table`.
        key, value: (B, Lk, H, d), or (Rk, H, d) with `table`.
        mask: (B, Lk), or (Rk,) with `table`, bool, True = valid key.
        table: (B, 4) int32, see `ProblemTable`, or None.
        max_queries, max_keys: Lq and Lk, or the longest ones of the table.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor
    table: Tensor | None
    max_queries: int
    max_keys: int

    @property
    def problems(self) -> int:
        """B."""
        return self.query.shape[0] if self.table is None else self.table.shape[0]

    def aligned(self) -> "Direction":
        """The same direction with the layouts that the kernels are compiled for."""
        return self._replace(
            query=_aligned(self.query),
            key=_aligned(self.key),
            value=_aligned(self.value),
            mask=self.mask.contiguous().view(torch.uint8),
        )

    def arguments(self, side: str) -> dict[str, Any]:
        """The kernels' arguments that describe this direction as their `side`, "wide" or "narrow"."""
        arguments: dict[str, Any] = {
            f"{side}_mask": self.mask,
            f"{side}_table": self.query.new_empty(0, dtype=torch.int32) if self.table is None else self.table,
            f"{side}_queries": self.max_queries,
            f"{side}_keys": self.max_keys,
        }
        for name, x in (("query", self.query), ("key", self.key), ("value", self.value)):
            arguments[f"{side}_{name}"] = x
            # Steps of sizes that are 1 can be anything; zeros keep the kernel's specialisation.
            arguments[f"{side}_{name}_item"] = x.stride(0) if x.dim() == 4 and x.shape[0] > 1 else 0
            arguments[f"{side}_{name}_step"] = x.stride(-3) if x.shape[-3] > 1 else 0
        return arguments


def _aligned(x: Tensor) -> Tensor:
    """x, or a copy of it where its heads are not dense or its rows do not start where the widest loads can."""
    steps = (step for size, step in zip(x.shape[:-2], x.stride()[:-2], strict=True) if size > 1)
    dense = x.stride(-1) == 1 and (x.stride(-2) == x.shape[-1] or x.shape[-2] == 1)
    if dense and x.data_ptr() % 16 == 0 and all(step % 16 == 0 for step in steps):
        return x
    return x.clone(memory_format=torch.contiguous_format)


def _short_tile(length: int) -> int:
    return next(tile for tile in SHORT_TILES if tile >= length)


def _launch(
    kernel: str,
    wide: Direction,
    narrow: Direction,
    seed: Tensor | None,
    dropout_p: float,
    arguments: dict[str, Any],
) -> None:
    """Launches a kernel over the aligned directions; `arguments` are those that only this kernel has."""
    query = wide.query
    check_device(query.device)
    from mesm_plugin.kernels.cross_attention import triton_kernels

    heads, head_size = query.shape[-2:]
    specialisation = specialise(
        kernel,
        architecture_of(query.device),
        precision_of(query.dtype, query.device),
        _short_tile(max(wide.max_keys, narrow.max_queries)),
        head_size,
        dropout_p > 0,
        emulates_bf16(query.dtype),
    )
    chunks = 1
    if kernel == FORWARD:
        constants = specialisation.constants
        chunks = -(-wide.max_queries // (constants["TILES"] * constants["BLOCK_LONG"]))
    programs = (wide.problems * chunks + narrow.problems) * heads
    if programs == 0:
        return
    with torch.cuda.device_of(query):
        getattr(triton_kernels, kernel)[(programs,)](
            **wide.arguments("wide"),
            **narrow.arguments("narrow"),
            **arguments,
            packed=int(wide.table is not None),
            wide_problems=wide.problems,
            heads=heads,
            seed_pointer=query.new_empty(0, dtype=torch.int64) if seed is None else seed,
            threshold=threshold(dropout_p),
            factor=1 / (1 - dropout_p),
            **specialisation.options(),
        )


def _directions(
    inputs: Sequence[Tensor], tables: Sequence[Tensor], lengths: Sequence[int]
) -> tuple[Direction, Direction]:
    directions = []
    for number, table in enumerate(tables or (None, None)):
        query, key, value, mask = inputs[4 * number : 4 * number + 4]
        max_queries, max_keys = lengths[2 * number : 2 * number + 2]
        directions.append(Direction(query, key, value, mask, table, max_queries, max_keys).aligned())
    wide, narrow = directions
    return wide, narrow


@torch.library.custom_op("mesm_plugin::bidirectional_cross_attention", mutates_args=())
def attend(
    inputs: list[Tensor],
    tables: list[Tensor],
    lengths: list[int],
    seed: Tensor | None,
    dropout_p: float,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Attends in both directions by one launch.

    Args:
        inputs: Query, key, value and mask of the wide direction, then of the narrow one (see `Direction`).
        tables: Tables of both directions, or none where the inputs are padded.
        lengths: Most queries and keys of a problem of the wide direction, then of the narrow one.
        seed: () int64 on the device of the inputs; None without dropout.
        dropout_p: Share of the attention weights that is dropped.
        scale: Factor of the dot products.

    Returns:
        Outputs of the wide and of the narrow direction in the shapes of their queries; and of the narrow direction, for
        the backward pass, the output in the accumulator's dtype and the logarithm to base 2 of the softmax's
        denominators (..., H).
    """
    wide, narrow = _directions(inputs, tables, lengths)
    outputs = _empty_outputs(inputs, tables)
    arguments = {
        **dict(zip(("wide_out", "narrow_out", "narrow_unrounded", "narrow_log_sum"), outputs, strict=True)),
        "scale_log2": scale * LOG2_E,
    }
    _launch(FORWARD, wide, narrow, seed, dropout_p, arguments)
    return outputs


def _empty(like: Tensor, tables: Sequence[Tensor], dtype: torch.dtype | None = None) -> Tensor:
    """A dense result; packed buffers may have rows that belong to no problem, and those are zero."""
    return (like.new_zeros if tables else like.new_empty)(like.shape, dtype=dtype)


def _empty_outputs(inputs: Sequence[Tensor], tables: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    wide_query, narrow_query = inputs[0], inputs[4]
    accumulator = torch.promote_types(narrow_query.dtype, torch.float32)
    return (
        _empty(wide_query, tables),
        _empty(narrow_query, tables),
        _empty(narrow_query, tables, accumulator),
        _empty(narrow_query[..., 0], tables, accumulator),
    )


@attend.register_fake
def _(
    inputs: list[Tensor],
    tables: list[Tensor],
    lengths: list[int],
    seed: Tensor | None,
    dropout_p: float,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _empty_outputs(inputs, tables)


@torch.library.custom_op("mesm_plugin::bidirectional_cross_attention_backward", mutates_args=())
def differentiate(
    inputs: list[Tensor],
    tables: list[Tensor],
    lengths: list[int],
    seed: Tensor | None,
    dropout_p: float,
    scale: float,
    narrow_unrounded: Tensor,
    log_sum: Tensor,
    wide_grad_out: Tensor,
    narrow_grad_out: Tensor,
) -> list[Tensor]:
    """Gradients of query, key and value of the wide direction, then of the narrow one, by one launch.

    Args:
        inputs, tables, lengths, seed, dropout_p, scale: As given to `attend`.
        narrow_unrounded, log_sum: As returned by it.
        wide_grad_out, narrow_grad_out: Gradients of its outputs.
    """
    wide, narrow = _directions(inputs, tables, lengths)
    grads = _empty_grads(inputs, tables)
    names = [f"{side}_grad_{name}" for side in ("wide", "narrow") for name in ("query", "key", "value")]
    arguments = {
        **dict(zip(names, grads, strict=True)),
        "narrow_unrounded": narrow_unrounded,
        "narrow_log_sum": log_sum,
        "wide_grad_out": wide_grad_out.contiguous(),
        "narrow_grad_out": narrow_grad_out.contiguous(),
        "scale": scale,
        "scale_log2": scale * LOG2_E,
    }
    _launch(BACKWARD, wide, narrow, seed, dropout_p, arguments)
    return grads


def _empty_grads(inputs: Sequence[Tensor], tables: Sequence[Tensor]) -> list[Tensor]:
    return [_empty(inputs[i], tables) for i in (0, 1, 2, 4, 5, 6)]


@differentiate.register_fake
def _(
    inputs: list[Tensor],
    tables: list[Tensor],
    lengths: list[int],
    seed: Tensor | None,
    dropout_p: float,
    scale: float,
    narrow_unrounded: Tensor,
    log_sum: Tensor,
    wide_grad_out: Tensor,
    narrow_grad_out: Tensor,
) -> list[Tensor]:
    return _empty_grads(inputs, tables)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    tensors, tables, ctx.lengths, seed, ctx.dropout_p, ctx.scale = inputs
    ctx.has_seed = seed is not None
    ctx.mark_non_differentiable(*output[2:])
    # Else zeros would be made for the gradients of these.
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, *tables, *([seed] if ctx.has_seed else []), *output[2:])


def _backward(ctx: Any, *grads_out: Tensor | None) -> tuple[Any, ...]:
    *saved, narrow_unrounded, log_sum = ctx.saved_tensors
    seed = saved.pop() if ctx.has_seed else None
    inputs, tables = saved[:8], saved[8:]
    wide_grad_out, narrow_grad_out = (
        query.new_zeros(query.shape) if grad is None else grad
        for query, grad in zip((inputs[0], inputs[4]), grads_out[:2], strict=True)
    )
    options = (ctx.lengths, seed, ctx.dropout_p, ctx.scale)
    grads = differentiate(inputs, tables, *options, narrow_unrounded, log_sum, wide_grad_out, narrow_grad_out)
    return [*grads[:3], None, *grads[3:], None], [None] * len(tables), None, None, None, None


attend.register_autograd(_backward, setup_context=_setup_context)
