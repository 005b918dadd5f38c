# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Bidirectional cross-attention as two Triton kernels, one forward and one backward; imports Triton.

A problem is one item of one direction: queries that attend to keys. In the first direction, "wide", the keys are the
short side (words) and the queries the long one (clips); in the second, "narrow", it is the other way round. A program
holds the short side whole and walks along the long side, so that in the backward pass it alone writes the gradients of
its rows. Programs of both directions share a launch: first those of the wide problems, then those of the narrow ones.

The rows of a problem are either an item of a padded batch or, with `packed`, a stretch of a shared row buffer given by
a table of (first query row, queries, first key row, keys).
"""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from mesm_plugin.kernels.numerics import dot, dot_transposed, load_operand, round_to_operand, store_rounded


@triton.jit
def locate(table, problem, packed, num_queries, num_keys):
    """Returns (item, first query row, queries, first key row, keys) of a problem."""
    packed = packed != 0
    entry = table + 4 * problem
    query_row = tl.load(entry, mask=packed, other=0)
    queries = tl.load(entry + 1, mask=packed, other=num_queries)
    key_row = tl.load(entry + 2, mask=packed, other=0)
    keys = tl.load(entry + 3, mask=packed, other=num_keys)
    item = tl.where(packed, 0, problem).to(tl.int64)
    return item, query_row.to(tl.int64), queries, key_row.to(tl.int64), keys


@triton.jit
def draw_kept(
    seed, problem, head, first_query, first_key, threshold, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Which weights of a (ROWS, COLUMNS) tile dropout keeps.

    Weight (i, j) takes 24 bits of word j % 4 of Philox4x32-10 at counter (j // 4, i, head, problem), so that the mask
    does not depend on the tiles.
    """
    # first_key is a multiple of COLUMNS, and that of four.
    group = (first_key // 4 + tl.arange(0, COLUMNS // 4))[None, :]
    query = (first_query + tl.arange(0, ROWS))[:, None]
    zero = tl.zeros((ROWS, COLUMNS // 4), tl.int32)
    word0, word1, word2, word3 = tl.philox(seed, zero + group, zero + query, zero + head, zero + problem)
    words = tl.join(tl.join(word0, word2), tl.join(word1, word3)).reshape(ROWS, COLUMNS)
    return (words >> 8) >= threshold


@triton.jit
def softmax_tile(logits):
    """Row-wise softmax of base-2 logits; zeros in rows of -inf."""
    largest = tl.max(logits, axis=1)
    largest = tl.where(largest == float("-inf"), 0.0, largest)
    weights = tl.exp2(logits - largest[:, None])
    total = tl.sum(weights, axis=1)
    return weights * (1.0 / tl.where(total == 0.0, 1.0, total))[:, None]


@triton.jit
def attend_wide(
    query, key, value, mask, out, table, packed, problem, first_problem, head, heads, first_tile, num_queries, num_keys,
    query_item, query_step, key_item, key_step, value_item, value_step,
    seed, threshold, factor, scale_log2,
    HEAD_SIZE: tl.constexpr, BLOCK_SHORT: tl.constexpr, BLOCK_LONG: tl.constexpr, TILES: tl.constexpr,
    DROPOUT: tl.constexpr, ACCUMULATOR: tl.constexpr, PRECISION: tl.constexpr, EMULATE_BF16: tl.constexpr,
):  # fmt: skip
    """Up to TILES tiles of many queries attend to all of few keys."""
    item, query_row, queries, key_row, keys = locate(table, problem, packed, num_queries, num_keys)
    channel = tl.arange(0, HEAD_SIZE)
    short = tl.arange(0, BLOCK_SHORT)
    valid = short < keys
    valid = tl.load(mask + item * num_keys + key_row + short, mask=valid, other=0) != 0
    column = head * HEAD_SIZE + channel[None, :]
    key += item * key_item + (key_row + short)[:, None] * key_step + column
    value += item * value_item + (key_row + short)[:, None] * value_step + column
    k = load_operand(key, valid[:, None], EMULATE_BF16)
    v = load_operand(value, valid[:, None], EMULATE_BF16)
    query += item * query_item + query_row * query_step + column
    out += (item * num_queries + query_row) * heads * HEAD_SIZE + column

    first = first_tile * BLOCK_LONG
    for start in range(first, tl.minimum(first + TILES * BLOCK_LONG, queries), BLOCK_LONG):
        row = start + tl.arange(0, BLOCK_LONG)
        inside = (row < queries)[:, None]
        row = row.to(tl.int64)[:, None]
        q = load_operand(query + row * query_step, inside, EMULATE_BF16)
        logits = dot_transposed(q, k, ACCUMULATOR, PRECISION) * scale_log2
        weights = softmax_tile(tl.where(valid[None, :], logits, float("-inf")))
        if DROPOUT:
            kept = draw_kept(seed, first_problem + problem, head, start, 0, threshold, BLOCK_LONG, BLOCK_SHORT)
            weights = tl.where(kept, weights, 0.0)
        attended = dot(round_to_operand(weights, v.dtype, EMULATE_BF16), v, ACCUMULATOR, PRECISION)
        if DROPOUT:
            attended *= factor
        store_rounded(out + row * heads * HEAD_SIZE, attended, inside, EMULATE_BF16)


@triton.jit
def attend_narrow(
    query, key, value, mask, out, unrounded, log_sum, table,
    packed, problem, first_problem, head, heads, num_queries, num_keys,
    query_item, query_step, key_item, key_step, value_item, value_step,
    seed, threshold, factor, scale_log2,
    HEAD_SIZE: tl.constexpr, BLOCK_SHORT: tl.constexpr, BLOCK_LONG: tl.constexpr,
    DROPOUT: tl.constexpr, ACCUMULATOR: tl.constexpr, PRECISION: tl.constexpr, EMULATE_BF16: tl.constexpr,
):  # fmt: skip
    """All of few queries attend to many keys, with a running softmax.

    The backward pass subtracts a sum over the outputs from products of the values. Where a query attends to one key
    alone these cancel, and roundings of half-precision outputs would stay, so it gets the `unrounded` ones.
    """
    item, query_row, queries, key_row, keys = locate(table, problem, packed, num_queries, num_keys)
    channel = tl.arange(0, HEAD_SIZE)
    short = tl.arange(0, BLOCK_SHORT)
    inside = short < queries
    row = (query_row + short)[:, None]
    column = head * HEAD_SIZE + channel[None, :]
    q = load_operand(query + item * query_item + row * query_step + column, inside[:, None], EMULATE_BF16)
    key += item * key_item + key_row * key_step + column
    value += item * value_item + key_row * value_step + column
    mask += item * num_keys + key_row

    largest = tl.full((BLOCK_SHORT,), float("-inf"), ACCUMULATOR)
    total = tl.zeros((BLOCK_SHORT,), ACCUMULATOR)
    attended = tl.zeros((BLOCK_SHORT, HEAD_SIZE), ACCUMULATOR)
    for start in range(0, keys, BLOCK_LONG):
        position = start + tl.arange(0, BLOCK_LONG)
        valid = tl.load(mask + position, mask=position < keys, other=0) != 0
        position = position.to(tl.int64)[:, None]
        k = load_operand(key + position * key_step, valid[:, None], EMULATE_BF16)
        v = load_operand(value + position * value_step, valid[:, None], EMULATE_BF16)
        logits = dot_transposed(q, k, ACCUMULATOR, PRECISION) * scale_log2
        logits = tl.where(valid[None, :], logits, float("-inf"))
        new_largest = tl.maximum(largest, tl.max(logits, axis=1))
        shift = tl.where(new_largest == float("-inf"), 0.0, new_largest)
        weights = tl.exp2(logits - shift[:, None])
        decay = tl.exp2(largest - shift)
        total = total * decay + tl.sum(weights, axis=1)
        if DROPOUT:
            kept = draw_kept(seed, first_problem + problem, head, 0, start, threshold, BLOCK_SHORT, BLOCK_LONG)
            weights = tl.where(kept, weights, 0.0)
        weights = round_to_operand(weights, v.dtype, EMULATE_BF16)
        attended = attended * decay[:, None] + dot(weights, v, ACCUMULATOR, PRECISION)
        largest = new_largest

    some = total > 0.0
    attended *= (1.0 / tl.where(some, total, 1.0))[:, None]
    if DROPOUT:
        attended *= factor
    row = (item * num_queries + query_row + short) * heads + head
    dense = row[:, None] * HEAD_SIZE + channel[None, :]
    store_rounded(out + dense, attended, inside[:, None], EMULATE_BF16)
    tl.store(unrounded + dense, attended, mask=inside[:, None])
    # Without any valid key all weights are exp2(-inf - 0) = 0.
    tl.store(log_sum + row, tl.where(some, largest + tl.log2(tl.where(some, total, 1.0)), 0.0), mask=inside)


@triton.jit(
    do_not_specialize=[
        "packed", "wide_problems", "heads", "wide_queries", "wide_keys", "narrow_queries", "narrow_keys", "threshold",
    ],
    do_not_specialize_on_alignment=["wide_mask", "narrow_mask", "wide_table", "narrow_table", "seed_pointer"],
)  # fmt: skip
def bidirectional_cross_attention_forward(
    wide_query, wide_key, wide_value, wide_mask, wide_out, wide_table,
    narrow_query, narrow_key, narrow_value, narrow_mask, narrow_out, narrow_unrounded, narrow_log_sum, narrow_table,
    wide_query_item, wide_query_step, wide_key_item, wide_key_step, wide_value_item, wide_value_step,
    narrow_query_item, narrow_query_step, narrow_key_item, narrow_key_step, narrow_value_item, narrow_value_step,
    packed, wide_problems, heads, wide_queries, wide_keys, narrow_queries, narrow_keys,
    seed_pointer, threshold, factor, scale_log2,
    HEAD_SIZE: tl.constexpr, BLOCK_SHORT: tl.constexpr, BLOCK_LONG: tl.constexpr, TILES: tl.constexpr,
    DROPOUT: tl.constexpr, ACCUMULATOR: tl.constexpr, PRECISION: tl.constexpr, EMULATE_BF16: tl.constexpr,
):  # fmt: skip
    """Grid: (wide problems * heads * chunks of TILES tiles of queries + narrow problems * heads,)."""
    program = tl.program_id(0)
    seed = 0
    if DROPOUT:
        seed = tl.load(seed_pointer)
    chunks = tl.cdiv(wide_queries, TILES * BLOCK_LONG)
    wide_programs = wide_problems * heads * chunks
    if program < wide_programs:
        attend_wide(
            wide_query, wide_key, wide_value, wide_mask, wide_out, wide_table, packed,
            program // (heads * chunks), 0, program // chunks % heads, heads, program % chunks * TILES,
            wide_queries, wide_keys,
            wide_query_item, wide_query_step, wide_key_item, wide_key_step, wide_value_item, wide_value_step,
            seed, threshold, factor, scale_log2,
            HEAD_SIZE, BLOCK_SHORT, BLOCK_LONG, TILES, DROPOUT, ACCUMULATOR, PRECISION, EMULATE_BF16,
        )  # fmt: skip
    else:
        program -= wide_programs
        attend_narrow(
            narrow_query, narrow_key, narrow_value, narrow_mask,
            narrow_out, narrow_unrounded, narrow_log_sum, narrow_table, packed,
            program // heads, wide_problems, program % heads, heads, narrow_queries, narrow_keys,
            narrow_query_item, narrow_query_step, narrow_key_item, narrow_key_step,
            narrow_value_item, narrow_value_step,
            seed, threshold, factor, scale_log2,
            HEAD_SIZE, BLOCK_SHORT, BLOCK_LONG, DROPOUT, ACCUMULATOR, PRECISION, EMULATE_BF16,
        )  # fmt: skip


@triton.jit
def differentiate_wide(
    query, key, value, mask, grad_out, grad_query, grad_key, grad_value, table,
    packed, problem, first_problem, head, heads, num_queries, num_keys,
    query_item, query_step, key_item, key_step, value_item, value_step,
    seed, threshold, factor, scale, scale_log2,
    HEAD_SIZE: tl.constexpr, BLOCK_SHORT: tl.constexpr, BLOCK_LONG: tl.constexpr,
    DROPOUT: tl.constexpr, ACCUMULATOR: tl.constexpr, PRECISION: tl.constexpr, EMULATE_BF16: tl.constexpr,
):  # fmt: skip
    """Gradients of a wide problem; every row of logits lies in one tile, so nothing is kept from the forward pass."""
    item, query_row, queries, key_row, keys = locate(table, problem, packed, num_queries, num_keys)
    channel = tl.arange(0, HEAD_SIZE)
    short = tl.arange(0, BLOCK_SHORT)
    inside_keys = short < keys
    valid = tl.load(mask + item * num_keys + key_row + short, mask=inside_keys, other=0) != 0
    column = head * HEAD_SIZE + channel[None, :]
    key += item * key_item + (key_row + short)[:, None] * key_step + column
    value += item * value_item + (key_row + short)[:, None] * value_step + column
    k = load_operand(key, valid[:, None], EMULATE_BF16)
    v = load_operand(value, valid[:, None], EMULATE_BF16)
    query += item * query_item + query_row * query_step + column
    dense = (item * num_queries + query_row) * heads * HEAD_SIZE + column
    grad_out += dense
    grad_query += dense

    grad_k = tl.zeros((BLOCK_SHORT, HEAD_SIZE), ACCUMULATOR)
    grad_v = tl.zeros((BLOCK_SHORT, HEAD_SIZE), ACCUMULATOR)
    for start in range(0, queries, BLOCK_LONG):
        row = start + tl.arange(0, BLOCK_LONG)
        inside = (row < queries)[:, None]
        row = row.to(tl.int64)[:, None]
        q = load_operand(query + row * query_step, inside, EMULATE_BF16)
        grad = load_operand(grad_out + row * heads * HEAD_SIZE, inside, EMULATE_BF16)
        logits = dot_transposed(q, k, ACCUMULATOR, PRECISION) * scale_log2
        weights = softmax_tile(tl.where(valid[None, :], logits, float("-inf")))
        grad_weights = dot_transposed(grad, v, ACCUMULATOR, PRECISION)
        dropped = weights
        if DROPOUT:
            kept = draw_kept(seed, first_problem + problem, head, start, 0, threshold, BLOCK_LONG, BLOCK_SHORT)
            dropped = tl.where(kept, weights, 0.0)
            grad_weights = tl.where(kept, grad_weights * factor, 0.0)
        grad_v += dot(tl.trans(round_to_operand(dropped, v.dtype, EMULATE_BF16)), grad, ACCUMULATOR, PRECISION)
        mean = tl.sum(weights * grad_weights, axis=1)
        grad_logits = round_to_operand(weights * (grad_weights - mean[:, None]), k.dtype, EMULATE_BF16)
        grad_k += dot(tl.trans(grad_logits), q, ACCUMULATOR, PRECISION)
        grad_q = dot(grad_logits, k, ACCUMULATOR, PRECISION) * scale
        store_rounded(grad_query + row * heads * HEAD_SIZE, grad_q, inside, EMULATE_BF16)

    if DROPOUT:
        grad_v *= factor
    dense = (item * num_keys + key_row + short)[:, None] * heads * HEAD_SIZE + column
    store_rounded(grad_key + dense, grad_k * scale, inside_keys[:, None], EMULATE_BF16)
    store_rounded(grad_value + dense, grad_v, inside_keys[:, None], EMULATE_BF16)


@triton.jit
def differentiate_narrow(
    query, key, value, mask, unrounded, log_sum, grad_out, grad_query, grad_key, grad_value, table,
    packed, problem, first_problem, head, heads, num_queries, num_keys,
    query_item, query_step, key_item, key_step, value_item, value_step,
    seed, threshold, factor, scale, scale_log2,
    HEAD_SIZE: tl.constexpr, BLOCK_SHORT: tl.constexpr, BLOCK_LONG: tl.constexpr,
    DROPOUT: tl.constexpr, ACCUMULATOR: tl.constexpr, PRECISION: tl.constexpr, EMULATE_BF16: tl.constexpr,
):  # fmt: skip
    """Gradients of a narrow problem, whose rows of logits are normalised by the forward pass's logarithmic sums."""
    item, query_row, queries, key_row, keys = locate(table, problem, packed, num_queries, num_keys)
    channel = tl.arange(0, HEAD_SIZE)
    short = tl.arange(0, BLOCK_SHORT)
    inside = short < queries
    column = head * HEAD_SIZE + channel[None, :]
    query += item * query_item + (query_row + short)[:, None] * query_step + column
    row = (item * num_queries + query_row + short) * heads + head
    dense = row[:, None] * HEAD_SIZE + channel[None, :]
    q = load_operand(query, inside[:, None], EMULATE_BF16)
    grad = load_operand(grad_out + dense, inside[:, None], EMULATE_BF16)
    attended = tl.load(unrounded + dense, mask=inside[:, None], other=0.0)
    mean = tl.sum(attended * grad.to(ACCUMULATOR), axis=1)
    normaliser = tl.load(log_sum + row, mask=inside, other=0.0)
    key += item * key_item + key_row * key_step + column
    value += item * value_item + key_row * value_step + column
    mask += item * num_keys + key_row
    dense_keys = (item * num_keys + key_row) * heads * HEAD_SIZE + column
    grad_key += dense_keys
    grad_value += dense_keys

    grad_q = tl.zeros((BLOCK_SHORT, HEAD_SIZE), ACCUMULATOR)
    for start in range(0, keys, BLOCK_LONG):
        position = start + tl.arange(0, BLOCK_LONG)
        inside_keys = position < keys
        valid = tl.load(mask + position, mask=inside_keys, other=0) != 0
        position = position.to(tl.int64)[:, None]
        k = load_operand(key + position * key_step, valid[:, None], EMULATE_BF16)
        v = load_operand(value + position * value_step, valid[:, None], EMULATE_BF16)
        logits = dot_transposed(q, k, ACCUMULATOR, PRECISION) * scale_log2
        weights = tl.where(valid[None, :], tl.exp2(logits - normaliser[:, None]), 0.0)
        grad_weights = dot_transposed(grad, v, ACCUMULATOR, PRECISION)
        dropped = weights
        if DROPOUT:
            kept = draw_kept(seed, first_problem + problem, head, 0, start, threshold, BLOCK_SHORT, BLOCK_LONG)
            dropped = tl.where(kept, weights, 0.0)
            grad_weights = tl.where(kept, grad_weights * factor, 0.0)
        grad_v = dot(tl.trans(round_to_operand(dropped, v.dtype, EMULATE_BF16)), grad, ACCUMULATOR, PRECISION)
        if DROPOUT:
            grad_v *= factor
        store_rounded(grad_value + position * heads * HEAD_SIZE, grad_v, inside_keys[:, None], EMULATE_BF16)
        grad_logits = round_to_operand(weights * (grad_weights - mean[:, None]), k.dtype, EMULATE_BF16)
        grad_q += dot(grad_logits, k, ACCUMULATOR, PRECISION)
        grad_k = dot(tl.trans(grad_logits), q, ACCUMULATOR, PRECISION) * scale
        store_rounded(grad_key + position * heads * HEAD_SIZE, grad_k, inside_keys[:, None], EMULATE_BF16)

    store_rounded(grad_query + dense, grad_q * scale, inside[:, None], EMULATE_BF16)


@triton.jit(
    do_not_specialize=[
        "packed", "wide_problems", "heads", "wide_queries", "wide_keys", "narrow_queries", "narrow_keys", "threshold",
    ],
    do_not_specialize_on_alignment=["wide_mask", "narrow_mask", "wide_table", "narrow_table", "seed_pointer"],
)  # fmt: skip
def bidirectional_cross_attention_backward(
    wide_query, wide_key, wide_value, wide_mask,
    wide_grad_out, wide_grad_query, wide_grad_key, wide_grad_value, wide_table,
    narrow_query, narrow_key, narrow_value, narrow_mask, narrow_unrounded, narrow_log_sum,
    narrow_grad_out, narrow_grad_query, narrow_grad_key, narrow_grad_value, narrow_table,
    wide_query_item, wide_query_step, wide_key_item, wide_key_step, wide_value_item, wide_value_step,
    narrow_query_item, narrow_query_step, narrow_key_item, narrow_key_step, narrow_value_item, narrow_value_step,
    packed, wide_problems, heads, wide_queries, wide_keys, narrow_queries, narrow_keys,
    seed_pointer, threshold, factor, scale, scale_log2,
    HEAD_SIZE: tl.constexpr, BLOCK_SHORT: tl.constexpr, BLOCK_LONG: tl.constexpr,
    DROPOUT: tl.constexpr, ACCUMULATOR: tl.constexpr, PRECISION: tl.constexpr, EMULATE_BF16: tl.constexpr,
):  # fmt: skip
    """Grid: (wide problems * heads + narrow problems * heads,)."""
    program = tl.program_id(0)
    seed = 0
    if DROPOUT:
        seed = tl.load(seed_pointer)
    wide_programs = wide_problems * heads
    if program < wide_programs:
        differentiate_wide(
            wide_query, wide_key, wide_value, wide_mask,
            wide_grad_out, wide_grad_query, wide_grad_key, wide_grad_value, wide_table,
            packed, program // heads, 0, program % heads, heads, wide_queries, wide_keys,
            wide_query_item, wide_query_step, wide_key_item, wide_key_step, wide_value_item, wide_value_step,
            seed, threshold, factor, scale, scale_log2,
            HEAD_SIZE, BLOCK_SHORT, BLOCK_LONG, DROPOUT, ACCUMULATOR, PRECISION, EMULATE_BF16,
        )  # fmt: skip
    else:
        program -= wide_programs
        differentiate_narrow(
            narrow_query, narrow_key, narrow_value, narrow_mask, narrow_unrounded, narrow_log_sum,
            narrow_grad_out, narrow_grad_query, narrow_grad_key, narrow_grad_value, narrow_table,
            packed, program // heads, wide_problems, program % heads, heads, narrow_queries, narrow_keys,
            narrow_query_item, narrow_query_step, narrow_key_item, narrow_key_step,
            narrow_value_item, narrow_value_step,
            seed, threshold, factor, scale, scale_log2,
            HEAD_SIZE, BLOCK_SHORT, BLOCK_LONG, DROPOUT, ACCUMULATOR, PRECISION, EMULATE_BF16,
        )  # fmt: skip
