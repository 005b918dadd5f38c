# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
# mypy: disable-error-code="no-untyped-def"
import re

import pytest
import torch
from torch import Tensor

from tests.kernels.interpreter_checks import AccessError, checked, poisoned

triton = pytest.importorskip("triton")
tl = triton.language

pytestmark = pytest.mark.usefixtures("interpreter")


@triton.jit
def copy_rows(source, target, rows, source_step, target_step, shift, OVERLAP: tl.constexpr, BLOCK: tl.constexpr):
    """Copies rows of eight columns, BLOCK - OVERLAP rows after the previous program's."""
    row = (tl.program_id(0) * (BLOCK - OVERLAP) + tl.arange(0, BLOCK))[:, None]
    column = tl.arange(0, 8)[None, :]
    x = tl.load(source + (row + shift) * source_step + column, mask=row < rows, other=0.0)
    tl.store(target + row * target_step + column, x, mask=row < rows)


@triton.jit
def load_eight_bytes(source, offset):
    tl.load((source + offset).to(tl.pointer_type(tl.int64)))


@triton.jit
def add_everywhere(counter, offset):
    tl.atomic_add(counter + offset, 1)


@triton.jit
def exchange(counter, offset):
    tl.atomic_cas(counter + offset, 0, 1)


def launch(
    source: Tensor, target: Tensor, *, rows: int | None = None, shift: int = 0, overlap: int = 0, programs: int = 3
) -> None:
    copy_rows[(programs,)](
        source,
        target,
        len(target) if rows is None else rows,
        source.stride(0),
        target.stride(0),
        shift,
        overlap,
        BLOCK=4,
    )


def test_right_kernels_pass_and_are_counted() -> None:
    source, target = torch.randn(10, 8), torch.zeros(10, 8)
    with checked() as checks:
        launch(source, target)
        launch(source, target)
    torch.testing.assert_close(target, source)
    assert checks.launches == {"copy_rows": 2}
    assert checks.loaded["copy_rows"] == {"source": 2 * 10 * 8 * 4}
    assert checks.stored["copy_rows"] == {"target": 2 * 10 * 8 * 4}
    assert checks.loaded["copy_rows"].total() == 640


def test_checks_end_with_the_block() -> None:
    source, target = torch.randn(10, 8), torch.zeros(10, 8)
    with checked() as checks:
        pass
    launch(source, target, overlap=1, programs=4)
    assert not checks.launches


@pytest.mark.parametrize(
    ("rows", "shift", "message"),
    [
        (
            11,
            0,
            r"copy_rows: program (2, 0, 0) loads .* in 8 of 24 lanes: the first at 0x\w+, 0 bytes after .* 'source'",
        ),
        (
            10,
            -1,
            r"copy_rows: program (0, 0, 0) loads .* in 8 of 32 lanes: the first at 0x\w+, 32 bytes before 'source'",
        ),
    ],
)
def test_loads_outside_a_tensor_are_caught(rows: int, shift: int, message: str) -> None:
    # One storage each, so that no neighbour takes the address.
    source, target = torch.randn(10, 8), torch.zeros(12, 8)
    with checked(), pytest.raises(AccessError, match=message.replace("(", r"\(").replace(")", r"\)")):
        launch(source, target, rows=rows, shift=shift)


def test_stores_outside_a_tensor_are_caught() -> None:
    source, target = torch.randn(12, 8), torch.zeros(10, 8)
    with (
        checked(),
        pytest.raises(AccessError, match=r"\(2, 0, 0\) stores .* 0 bytes after the end of 'target'"),
    ):
        launch(source, target, rows=11)


def test_gaps_between_rows_belong_to_nobody() -> None:
    source, target = torch.randn(10, 16), torch.zeros(10, 8)
    with checked():
        launch(source[:, 8:], target)
    torch.testing.assert_close(target, source[:, 8:])
    # Rows of six columns: columns 6 and 7 of each row lie between the rows.
    message = r"in 8 of 32 lanes: the first at 0x\w+, 24 bytes into 'source'"
    with checked(), pytest.raises(AccessError, match=message):
        launch(source[:, :6], target)


def test_each_byte_of_a_lane_must_belong_to_the_tensor() -> None:
    source = torch.zeros(4, dtype=torch.int32)
    with checked() as checks:
        load_eight_bytes[(1,)](source, 2)
    assert checks.loaded["load_eight_bytes"] == {"source": 8}
    with checked(), pytest.raises(AccessError, match="12 bytes into 'source'"):
        load_eight_bytes[(1,)](source, 3)


def test_two_programs_at_one_address_are_caught() -> None:
    source, target = torch.randn(10, 8), torch.zeros(10, 8)
    message = (
        r"program \(1, 0, 0\) stores where program number 0 .* stored, in 8 of 32 lanes: .* 96 bytes into 'target'"
    )
    with checked(), pytest.raises(AccessError, match=message):
        launch(source, target, overlap=1)


def test_atomics_are_checked_and_may_share_an_address() -> None:
    counter = torch.zeros(2, dtype=torch.int32)
    with checked() as checks:
        add_everywhere[(3,)](counter, 1)
        exchange[(3,)](counter, 0)
    assert counter.tolist() == [1, 3]
    assert checks.loaded["exchange"] == checks.stored["exchange"] == {"counter": 12}
    for kernel in (add_everywhere, exchange):
        with checked(), pytest.raises(AccessError, match="0 bytes after the end of 'counter'"):
            kernel[(1,)](counter, 2)


def test_first_of_overlapping_arguments_owns_the_bytes() -> None:
    rows = torch.randn(20, 8)
    with checked() as checks:
        launch(rows[:10], rows[10:])
        launch(rows[::2], rows[1::2])
        launch(rows[:10], rows[:10])
    assert checks.loaded["copy_rows"] == {"source": 960}
    assert checks.stored["copy_rows"] == {"target": 640, "source": 320}


@torch.library.custom_op("mesm_plugin_test::copy_rows", mutates_args=())
def copied(source: Tensor, shift: int) -> Tensor:
    target = torch.zeros_like(source)
    launch(source, target, shift=shift)
    return target


copied.register_autograd(lambda ctx, grad: (copied(grad.contiguous(), 0), None))


def test_works_inside_operators_and_their_backward() -> None:
    source = torch.randn(10, 8, requires_grad=True)
    with checked() as checks:
        copied(source, 0).sum().backward()
    assert checks.launches == {"copy_rows": 2}
    with checked(), pytest.raises(AccessError, match="loads outside"):
        copied(source, 1)


def test_an_unknown_interpreter_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from triton.runtime import interpreter

    monkeypatch.delattr(interpreter.GridExecutor, "_init_args_hst")
    message = f"Triton {re.escape(triton.__version__)} has no GridExecutor._init_args_hst"
    with pytest.raises(RuntimeError, match=message), checked():
        pass


@pytest.mark.parametrize(
    ("dtype", "poison"), [(torch.float16, torch.nan), (torch.int32, 2**31 - 1), (torch.bool, True)]
)
def test_poisoned(dtype: torch.dtype, poison: float) -> None:
    x = torch.zeros(2, 3, 4, dtype=dtype)
    view = poisoned(x, dim=1, margin=5)
    assert torch.equal(view, x)
    assert view.stride() == (13 * 4, 4, 1)
    buffer = view._base
    assert buffer is not None
    around = torch.cat((buffer[:, :5], buffer[:, 8:]), dim=1)
    assert torch.equal(around, torch.full_like(around, poison)) or around.isnan().all()


def test_poison_shows_a_read_of_a_neighbour() -> None:
    source, target = poisoned(torch.randn(10, 8), margin=1), torch.zeros(10, 8)
    launch(source, target)
    assert target.isfinite().all()
    launch(source, target, shift=1)
    assert target[9].isnan().all()
