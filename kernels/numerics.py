# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Products and roundings that the Triton kernels share; imports Triton.

The interpreter multiplies the bit patterns of bfloat16 numbers and truncates when it rounds to them. Under the constant
EMULATE_BF16 kernels therefore hold such numbers as float32, rounded to bfloat16 by hand.
"""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl


@triton.jit
def round_to_bf16(x):
    """Float32 numbers rounded to the nearest bfloat16, ties to even, and kept as float32."""
    bits = x.to(tl.uint32, bitcast=True)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    # A NaN would carry into its exponent.
    return tl.where(x == x, rounded.to(tl.float32, bitcast=True), x)


@triton.jit
def load_operand(pointer, mask, EMULATE_BF16: tl.constexpr):
    """Loads a tile that goes into a matrix product; zeros where `mask` is False."""
    x = tl.load(pointer, mask=mask, other=0.0)
    if EMULATE_BF16:
        x = x.to(tl.float32)
    return x


@triton.jit
def round_to_operand(x, dtype: tl.constexpr, EMULATE_BF16: tl.constexpr):
    """Rounds an accumulated tile to the dtype of the inputs, for the next matrix product."""
    if EMULATE_BF16:
        return round_to_bf16(x)
    else:
        return x.to(dtype)


@triton.jit
def store_rounded(pointer, x, mask, EMULATE_BF16: tl.constexpr):
    """Stores an accumulated tile in the dtype of the pointer."""
    if EMULATE_BF16:
        x = round_to_bf16(x)
    tl.store(pointer, x.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def dot(a, b, ACCUMULATOR: tl.constexpr, PRECISION: tl.constexpr):
    """Matrix product of operands, accumulated in the dtype ACCUMULATOR."""
    return tl.dot(a, b, out_dtype=ACCUMULATOR, input_precision=PRECISION)


@triton.jit
def dot_transposed(a, b, ACCUMULATOR: tl.constexpr, PRECISION: tl.constexpr):
    """Matrix product of a and the transpose of b, both operands with one row of channels each.

    Products in IEEE float32 hold whole rows of both operands in registers. Rows of 64 channels are too long for that,
    so these add the product of the odd channels to that of the even ones; a thread has both side by side.
    """
    if PRECISION == "ieee" and a.dtype == tl.float32 and a.shape[1] == 64:
        even_a, odd_a = tl.split(a.reshape(a.shape[0], 32, 2))
        even_b, odd_b = tl.split(b.reshape(b.shape[0], 32, 2))
        product = dot(even_a, tl.trans(even_b), ACCUMULATOR, PRECISION)
        return product + dot(odd_a, tl.trans(odd_b), ACCUMULATOR, PRECISION)
    else:
        return dot(a, tl.trans(b), ACCUMULATOR, PRECISION)
