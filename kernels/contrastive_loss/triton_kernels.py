# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The IoU-positive contrastive loss as three Triton kernels, two forward and one backward; imports Triton.

Rows are the anchors, columns what they are contrasted with. The logits of a row against all columns are needed whole,
once to normalise and once more for each gradient, but never at the same time: every program computes them anew, tile by
tile, and only sums over a row are stored.

Logits are to base 2. The sums over a row, two for all columns and two for its positives, lie in four planes:
`partials` (4, splits, N) of the forward pass over some of the columns, and `statistics` (4, N) of all columns, which
hold (largest logit, factor of exp2(logit - largest)) so that the gradient of a logit is the difference of two products.
"""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from mesm_plugin.kernels.numerics import dot, load_operand, round_to_operand, store_rounded

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)
# Gradients of logits lie in [-1, 1] and are mostly tiny: in float16 they would round to subnormal numbers or zero.
HEADROOM = tl.constexpr(16384.0)


@triton.jit
def divide(x, y):
    """x / y, rounded correctly; Triton's own division of float32 is approximate."""
    if y.dtype == tl.float32:
        return tl.div_rn(x, y)
    else:
        return x / y


@triton.jit
def load_annotations(moments, group, index, count, grouped):
    """Starts, ends and groups of the items at `index`; all are in group 0 where `grouped` is 0."""
    inside = index < count
    start = tl.load(moments + 2 * index, mask=inside, other=0.0)
    end = tl.load(moments + 2 * index + 1, mask=inside, other=0.0)
    return start, end, tl.load(group + index, mask=index < count * grouped, other=0)


@triton.jit
def positive_tile(start_a, end_a, group_a, start_b, end_b, group_b, threshold, GIOU: tl.constexpr):
    """Which pairs are positives of each other, as `reference.positive_pairs`."""
    start_a, end_a, group_a = start_a[:, None], end_a[:, None], group_a[:, None]
    start_b, end_b, group_b = start_b[None, :], end_b[None, :], group_b[None, :]
    intersection = tl.maximum(tl.minimum(end_a, end_b) - tl.maximum(start_a, start_b), 0.0)
    union = (end_a - start_a) + (end_b - start_b) - intersection
    if GIOU:
        hull = tl.maximum(end_a, end_b) - tl.minimum(start_a, start_b)
        near = intersection * hull - (hull - union) * union >= threshold * union * hull
    else:
        near = intersection > threshold * union
    return near & (union > 0.0) & (group_a == group_b)


@triton.jit
def logits_tile(
    a, b, inside_a, inside_b, channels, scale,
    BLOCK_A: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_CHANNELS: tl.constexpr,
    ACCUMULATOR: tl.constexpr, PRECISION: tl.constexpr, EMULATE_BF16: tl.constexpr,
):  # fmt: skip
    """Scaled products of all pairs of features; `a` and `b` point to the first channel of each."""
    logits = tl.zeros((BLOCK_A, BLOCK_B), ACCUMULATOR)
    for first in range(0, channels, BLOCK_CHANNELS):
        channel = (first + tl.arange(0, BLOCK_CHANNELS))[None, :]
        inside = channel < channels
        x = load_operand(a[:, None] + channel, inside_a[:, None] & inside, EMULATE_BF16)
        y = load_operand(b[:, None] + channel, inside_b[:, None] & inside, EMULATE_BF16)
        logits += dot(x, tl.trans(y), ACCUMULATOR, PRECISION)
    return logits * scale


@triton.jit(
    do_not_specialize=["num_rows", "num_columns", "grouped"],
    do_not_specialize_on_alignment=["row_moments", "column_moments", "row_group", "column_group", "tau"],
)
def contrastive_loss_forward(
    rows, columns, row_moments, column_moments, row_group, column_group, tau, partials,
    row_step, column_step, channels, num_rows, num_columns, grouped, threshold,
    GIOU: tl.constexpr, LOG_SUM: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr,
    ACCUMULATOR: tl.constexpr, PRECISION: tl.constexpr, EMULATE_BF16: tl.constexpr,
):  # fmt: skip
    """Sums of BLOCK_ROWS rows over one split of the columns. Grid: (tiles of rows, splits).

    Partials of all columns: largest logit, sum of exp2(logit - largest). Of the positives, with LOG_SUM: the same;
    else: sum of largest - logit, count.
    """
    split = tl.program_id(1)
    splits = tl.num_programs(1)
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    inside_row = row < num_rows
    row_start, row_end, row_label = load_annotations(row_moments, row_group, row, num_rows, grouped)
    scale = divide(LOG2_E, tl.load(tau))
    row_pointer = rows + row.to(tl.int64) * row_step

    largest = tl.full((BLOCK_ROWS,), float("-inf"), ACCUMULATOR)
    total = tl.zeros((BLOCK_ROWS,), ACCUMULATOR)
    largest_positive = tl.full((BLOCK_ROWS,), float("-inf"), ACCUMULATOR)
    total_positive = tl.zeros((BLOCK_ROWS,), ACCUMULATOR)
    distance = tl.zeros((BLOCK_ROWS,), ACCUMULATOR)
    width = tl.cdiv(tl.cdiv(num_columns, BLOCK_COLUMNS), splits) * BLOCK_COLUMNS
    for start in range(split * width, tl.minimum((split + 1) * width, num_columns), BLOCK_COLUMNS):
        column = start + tl.arange(0, BLOCK_COLUMNS)
        inside_column = column < num_columns
        logits = logits_tile(
            row_pointer, columns + column.to(tl.int64) * column_step, inside_row, inside_column, channels, scale,
            BLOCK_ROWS, BLOCK_COLUMNS, BLOCK_CHANNELS, ACCUMULATOR, PRECISION, EMULATE_BF16,
        )  # fmt: skip
        column_start, column_end, column_label = load_annotations(
            column_moments, column_group, column, num_columns, grouped
        )
        positive = inside_column[None, :] & positive_tile(
            row_start, row_end, row_label, column_start, column_end, column_label, threshold, GIOU
        )
        logits = tl.where(inside_column[None, :], logits, float("-inf"))
        new_largest = tl.maximum(largest, tl.max(logits, axis=1))
        total = total * tl.exp2(largest - new_largest) + tl.sum(tl.exp2(logits - new_largest[:, None]), axis=1)
        # Below, logits stand for `positive`: sums of the latter alone would get a layout of their own, in which
        # each thread loads most of the annotations.
        positive_logits = tl.where(positive, logits, float("-inf"))
        if LOG_SUM:
            new_positive = tl.maximum(largest_positive, tl.max(positive_logits, axis=1))
            shift = tl.where(new_positive == float("-inf"), 0.0, new_positive)
            total_positive = total_positive * tl.exp2(largest_positive - shift)
            total_positive += tl.sum(tl.exp2(positive_logits - shift[:, None]), axis=1)
            largest_positive = new_positive
        else:
            counted = positive_logits != float("-inf")
            # Without earlier columns there is no finite largest logit to rise from.
            distance += total_positive * tl.where(total_positive > 0.0, new_largest - largest, 0.0)
            distance += tl.sum(tl.where(counted, new_largest[:, None] - logits, 0.0), axis=1)
            total_positive += tl.sum(counted.to(ACCUMULATOR), axis=1)
        largest = new_largest

    plane = splits.to(tl.int64) * num_rows
    partials += split.to(tl.int64) * num_rows + row
    tl.store(partials, largest, mask=inside_row)
    tl.store(partials + plane, total, mask=inside_row)
    if LOG_SUM:
        tl.store(partials + 2 * plane, largest_positive, mask=inside_row)
    else:
        tl.store(partials + 2 * plane, distance, mask=inside_row)
    tl.store(partials + 3 * plane, total_positive, mask=inside_row)


@triton.jit
def finite_max(x):
    """Maximum along the first axis, 0 where all are -inf."""
    largest = tl.max(x, axis=0)
    return tl.where(largest == float("-inf"), 0.0, largest)


@triton.jit(
    do_not_specialize=["num_rows", "divisor", "per_row"],
    do_not_specialize_on_alignment=["loss"],
)
def contrastive_loss_merge(
    partials, statistics, loss, num_rows, divisor, per_row, eps,
    LOG_SUM: tl.constexpr, SPLITS: tl.constexpr, BLOCK_ROWS: tl.constexpr, ACCUMULATOR: tl.constexpr,
):  # fmt: skip
    """Statistics and loss of all rows by one program, so that their sum always has the same order. Grid: (1,)."""
    split = tl.arange(0, SPLITS)[:, None].to(tl.int64)
    plane = SPLITS * num_rows.to(tl.int64)
    summed = tl.zeros((BLOCK_ROWS,), ACCUMULATOR)
    for start in range(0, num_rows, BLOCK_ROWS):
        row = start + tl.arange(0, BLOCK_ROWS)
        inside = row < num_rows
        partial = partials + split * num_rows + row[None, :]
        largest_parts = tl.load(partial, mask=inside[None, :], other=0.0)
        total_parts = tl.load(partial + plane, mask=inside[None, :], other=1.0)
        first_positive = tl.load(partial + 2 * plane, mask=inside[None, :], other=0.0)
        second_positive = tl.load(partial + 3 * plane, mask=inside[None, :], other=0.0)

        largest = finite_max(largest_parts)
        total = tl.sum(total_parts * tl.exp2(largest_parts - largest[None, :]), axis=0) + eps
        if LOG_SUM:
            largest_positive = finite_max(first_positive)
            total_positive = tl.sum(second_positive * tl.exp2(first_positive - largest_positive[None, :]), axis=0)
            # Not "greater": NaN stays visible.
            has_positive = total_positive != 0.0
            total_positive = tl.where(has_positive, total_positive, 1.0)
            value = (largest - largest_positive) + tl.log2(total) - tl.log2(total_positive)
            factor = divide(1.0, total)
            factor_positive = divide(1.0, total_positive)
        else:
            largest_positive = tl.zeros((BLOCK_ROWS,), ACCUMULATOR)
            count = tl.sum(second_positive, axis=0)
            has_positive = count != 0.0
            # An empty split has the largest logit -inf.
            rise = tl.where(second_positive != 0.0, largest[None, :] - largest_parts, 0.0)
            distance = tl.sum(first_positive + second_positive * rise, axis=0)
            factor_positive = divide(1.0, tl.where(has_positive, count + eps, 1.0))
            value = (distance + count * tl.log2(total)) * factor_positive
            factor = divide(count * factor_positive, total)
        value = tl.where(has_positive, value * LN_2, 0.0)
        tl.store(statistics + row, largest, mask=inside)
        statistic = statistics + num_rows.to(tl.int64) + row
        tl.store(statistic, tl.where(has_positive, factor, 0.0), mask=inside)
        tl.store(statistic + num_rows, largest_positive, mask=inside)
        statistic += 2 * num_rows.to(tl.int64)
        tl.store(statistic, tl.where(has_positive, factor_positive, 0.0), mask=inside)
        tl.store(loss + row, value, mask=row < num_rows * per_row)
        summed += tl.where(inside, value, 0.0)
    tl.store(loss, divide(tl.sum(summed, axis=0), divisor.to(ACCUMULATOR)), mask=per_row == 0)


@triton.jit
def load_statistics(statistics, row, num_rows):
    """Largest logits and factors of all columns, then of the positives; `row` is (BLOCK, 1) or (1, BLOCK)."""
    inside = row < num_rows
    plane = num_rows.to(tl.int64)
    largest = tl.load(statistics + row, mask=inside, other=0.0)
    factor = tl.load(statistics + plane + row, mask=inside, other=0.0)
    largest_positive = tl.load(statistics + 2 * plane + row, mask=inside, other=0.0)
    factor_positive = tl.load(statistics + 3 * plane + row, mask=inside, other=0.0)
    return largest, factor * HEADROOM, largest_positive, factor_positive * HEADROOM


@triton.jit
def differentiate(
    own, other, own_moments, other_moments, own_group, other_group, statistics, grad_own, grad_tau,
    tile, part, own_step, other_step, channels, num_own, num_other, grouped, threshold, scale, upstream,
    ANCHORS: tl.constexpr, GIOU: tl.constexpr, LOG_SUM: tl.constexpr,
    BLOCK_OWN: tl.constexpr, BLOCK_OTHER: tl.constexpr, BLOCK_CHANNELS: tl.constexpr, BLOCK_PART: tl.constexpr,
    ACCUMULATOR: tl.constexpr, PRECISION: tl.constexpr, EMULATE_BF16: tl.constexpr,
):  # fmt: skip
    """Gradients of one part of the channels of one tile of features, which are the rows with ANCHORS, else columns."""
    index = tile * BLOCK_OWN + tl.arange(0, BLOCK_OWN)
    inside_own = index < num_own
    own_start, own_end, own_label = load_annotations(own_moments, own_group, index, num_own, grouped)
    own_pointer = own + index.to(tl.int64) * own_step
    channel = part * BLOCK_PART + tl.arange(0, BLOCK_PART)
    inside_part = (channel < channels)[None, :]

    if ANCHORS:
        largest, factor, largest_positive, factor_positive = load_statistics(statistics, index[:, None], num_own)
    grad = tl.zeros((BLOCK_OWN, BLOCK_PART), ACCUMULATOR)
    weighted = tl.zeros((BLOCK_OWN,), ACCUMULATOR)
    for start in range(0, num_other, BLOCK_OTHER):
        position = start + tl.arange(0, BLOCK_OTHER)
        inside_other = position < num_other
        other_pointer = other + position.to(tl.int64) * other_step
        logits = logits_tile(
            own_pointer, other_pointer, inside_own, inside_other, channels, scale,
            BLOCK_OWN, BLOCK_OTHER, BLOCK_CHANNELS, ACCUMULATOR, PRECISION, EMULATE_BF16,
        )  # fmt: skip
        other_start, other_end, other_label = load_annotations(other_moments, other_group, position, num_other, grouped)
        positive = inside_other[None, :] & positive_tile(
            own_start, own_end, own_label, other_start, other_end, other_label, threshold, GIOU
        )
        if not ANCHORS:
            largest, factor, largest_positive, factor_positive = load_statistics(
                statistics, position[None, :], num_other
            )
        grad_logits = tl.exp2(tl.where(inside_other[None, :], logits - largest, float("-inf"))) * factor
        if LOG_SUM:
            grad_logits -= tl.exp2(tl.where(positive, logits - largest_positive, float("-inf"))) * factor_positive
        else:
            grad_logits -= tl.where(positive, factor_positive, 0.0)
        if ANCHORS:
            weighted += tl.sum(grad_logits * logits, axis=1)
        y = load_operand(other_pointer[:, None] + channel[None, :], inside_other[:, None] & inside_part, EMULATE_BF16)
        grad += dot(round_to_operand(grad_logits, y.dtype, EMULATE_BF16), y, ACCUMULATOR, PRECISION)

    # The gradient of the loss comes last: folded into float16 gradients of logits it would turn them to zeros.
    grad_pointer = grad_own + index.to(tl.int64)[:, None] * channels + channel[None, :]
    store_rounded(grad_pointer, grad * upstream, inside_own[:, None] & inside_part, EMULATE_BF16)
    if ANCHORS:
        tl.store(grad_tau + index, weighted * upstream * -LN_2, mask=index < tl.where(part == 0, num_own, 0))


@triton.jit(
    do_not_specialize=["num_rows", "num_columns", "grouped", "divisor"],
    do_not_specialize_on_alignment=["row_moments", "column_moments", "row_group", "column_group", "tau", "grad_loss"],
)
def contrastive_loss_backward(
    rows, columns, row_moments, column_moments, row_group, column_group, tau, statistics, grad_loss,
    grad_rows, grad_columns, grad_tau,
    row_step, column_step, channels, num_rows, num_columns, grouped, threshold, divisor,
    GIOU: tl.constexpr, LOG_SUM: tl.constexpr,
    BLOCK_OWN: tl.constexpr, BLOCK_OTHER: tl.constexpr, BLOCK_CHANNELS: tl.constexpr, BLOCK_PART: tl.constexpr,
    ACCUMULATOR: tl.constexpr, PRECISION: tl.constexpr, EMULATE_BF16: tl.constexpr,
):  # fmt: skip
    """Gradients of rows, then of columns. Grid: ((tiles of rows + tiles of columns) * parts of the channels,).

    The gradient of tau is left as one summand per row.
    """
    program = tl.program_id(0)
    temperature = tl.load(tau)
    scale = divide(LOG2_E, temperature)
    upstream = divide(tl.load(grad_loss), temperature * divisor.to(ACCUMULATOR) * HEADROOM)
    parts = tl.cdiv(channels, BLOCK_PART)
    row_programs = tl.cdiv(num_rows, BLOCK_OWN) * parts
    if program < row_programs:
        differentiate(
            rows, columns, row_moments, column_moments, row_group, column_group, statistics, grad_rows, grad_tau,
            program // parts, program % parts, row_step, column_step, channels, num_rows, num_columns,
            grouped, threshold, scale, upstream,
            True, GIOU, LOG_SUM, BLOCK_OWN, BLOCK_OTHER, BLOCK_CHANNELS, BLOCK_PART,
            ACCUMULATOR, PRECISION, EMULATE_BF16,
        )  # fmt: skip
    else:
        program -= row_programs
        differentiate(
            columns, rows, column_moments, row_moments, column_group, row_group, statistics, grad_columns, grad_tau,
            program // parts, program % parts, column_step, row_step, channels, num_columns, num_rows,
            grouped, threshold, scale, upstream,
            False, GIOU, LOG_SUM, BLOCK_OWN, BLOCK_OTHER, BLOCK_CHANNELS, BLOCK_PART,
            ACCUMULATOR, PRECISION, EMULATE_BF16,
        )  # fmt: skip
