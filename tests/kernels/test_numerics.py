# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# mypy: disable-error-code="no-untyped-def"
import pytest
import torch

from mesm_plugin.kernels.specialisation import emulates_bf16, numeric_constants, precision_of

triton = pytest.importorskip("triton")
tl = triton.language

from mesm_plugin.kernels.numerics import (  # noqa: E402
    dot,
    dot_transposed,
    load_operand,
    round_to_bf16,
    round_to_operand,
    store_rounded,
)


@triton.jit
def round_kernel(source, target, BLOCK: tl.constexpr):
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(target + lane, round_to_bf16(tl.load(source + lane)))


@triton.jit
def multiply_kernel(
    left, right, accumulated, rounded, rows,
    SIZE: tl.constexpr, ACCUMULATOR: tl.constexpr, PRECISION: tl.constexpr, EMULATE_BF16: tl.constexpr,
):  # fmt: skip
    """Stores the product in the accumulator's dtype, and after a rounding in that of the operands."""
    row = tl.arange(0, SIZE)[:, None]
    lane = row * SIZE + tl.arange(0, SIZE)[None, :]
    a = load_operand(left + lane, row < rows, EMULATE_BF16)
    b = load_operand(right + lane, row < SIZE, EMULATE_BF16)
    product = dot(a, b, ACCUMULATOR, PRECISION)
    tl.store(accumulated + lane, product)
    operand = round_to_operand(product, left.dtype.element_ty, EMULATE_BF16)
    store_rounded(rounded + lane, operand.to(ACCUMULATOR), row < rows, EMULATE_BF16)


@triton.jit
def multiply_rows_kernel(
    left, right, product, ROWS: tl.constexpr, OTHER_ROWS: tl.constexpr, CHANNELS: tl.constexpr,
    ACCUMULATOR: tl.constexpr, PRECISION: tl.constexpr, EMULATE_BF16: tl.constexpr,
):  # fmt: skip
    row, other_row, channel = tl.arange(0, ROWS), tl.arange(0, OTHER_ROWS), tl.arange(0, CHANNELS)
    a = load_operand(left + row[:, None] * CHANNELS + channel, row[:, None] < ROWS, EMULATE_BF16)
    b = load_operand(right + other_row[:, None] * CHANNELS + channel, other_row[:, None] < OTHER_ROWS, EMULATE_BF16)
    tl.store(product + row[:, None] * OTHER_ROWS + other_row, dot_transposed(a, b, ACCUMULATOR, PRECISION))


def test_rounding_to_bf16(kernel_device: torch.device) -> None:
    # Every upper half of a float32 number with lower halves around a tie.
    upper = torch.arange(-(2**15), 2**15, dtype=torch.int32)[:, None] << 16
    x = (upper | torch.tensor([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])).flatten().view(torch.float32)
    x = x.to(kernel_device)
    rounded = torch.empty_like(x)
    round_kernel[(x.numel() // 4096,)](x, rounded, BLOCK=4096)
    expected = x.to(torch.bfloat16).float()
    assert x.isnan().sum() > 1000
    assert torch.equal(rounded.isnan(), x.isnan())
    # Compared as bits, so that zeros have their sign.
    numbers = ~x.isnan()
    assert torch.equal(rounded[numbers].view(torch.int32), expected[numbers].view(torch.int32))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_product(dtype: torch.dtype, kernel_device: torch.device) -> None:
    check_product(dtype, kernel_device)


def test_product_in_float64(interpreter: torch.device) -> None:
    check_product(torch.float64, interpreter)


def check_product(dtype: torch.dtype, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(16, 16, generator=generator).to(device, dtype) for _ in range(2))
    accumulated = torch.zeros(16, 16, dtype=torch.promote_types(dtype, torch.float32), device=device)
    rounded = torch.full_like(left, -7.0)
    rows = 11
    constants = numeric_constants(precision_of(dtype, device), emulates_bf16(dtype))
    multiply_kernel[(1,)](left, right, accumulated, rounded, rows, SIZE=16, **constants)
    expected = left.double() @ right.double()
    # Rows that the mask leaves out are loaded as zeros and not stored.
    expected[rows:] = 0.0
    tolerance = 1e-14 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(accumulated.double(), expected, rtol=0, atol=tolerance * expected.abs().max().item())
    assert torch.equal(rounded[:rows], accumulated[:rows].to(dtype))
    assert (rounded[rows:] == -7.0).all()


@pytest.mark.parametrize("channels", [32, 64])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_transposed_product(dtype: torch.dtype, channels: int, kernel_device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(rows, channels, generator=generator).to(kernel_device, dtype) for rows in (16, 32))
    product = torch.zeros(16, 32, device=kernel_device)
    constants = numeric_constants(precision_of(dtype, kernel_device), emulates_bf16(dtype))
    multiply_rows_kernel[(1,)](left, right, product, ROWS=16, OTHER_ROWS=32, CHANNELS=channels, **constants)
    expected = left.double() @ right.double().T
    torch.testing.assert_close(product.double(), expected, rtol=0, atol=1e-6 * expected.abs().max().item())
