# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest

from bench.gpus import GPUS


@pytest.mark.parametrize(
    ("architecture", "registers", "warps", "shared", "blocks"),
    [
        ("sm_86", 168, 4, 12 << 10, 3),  # registers: 3 warps a partition
        ("sm_86", 96, 4, 10 << 10, 5),
        ("sm_86", 40, 4, 30 << 10, 3),  # shared memory: 100 KiB for 31 KiB each
        ("sm_86", 16, 1, 0, 16),  # the limit of blocks
        ("sm_86", 255, 16, 0, 0),
        ("sm_90", 207, 4, 12 << 10, 2),
        ("gfx942", 197, 4, 10 << 10, 2),
        ("gfx942", 324, 4, 12 << 10, 1),
        ("gfx942", 64, 4, 48 << 10, 1),
    ],
)
def test_resident_blocks(architecture: str, registers: int, warps: int, shared: int, blocks: int) -> None:
    assert GPUS[architecture].resident_blocks(registers, warps, shared) == blocks


def test_tensor_memory_bounds_blocks() -> None:
    assert GPUS["sm_100"].resident_blocks(32, 4, 1024, tensor_memory=128) == 4


def test_occupancy() -> None:
    assert GPUS["sm_86"].occupancy(blocks=3, warps=4) == 0.25
    assert GPUS["gfx942"].occupancy(blocks=2, warps=4) == 0.25


def test_names_and_limits_of_shared_memory() -> None:
    limits = {name: gpu.shared_of_block // 1024 for name, gpu in GPUS.items()}
    assert limits == {"sm_80": 163, "sm_86": 99, "sm_89": 99, "sm_90": 227, "sm_100": 227, "sm_120": 99, "gfx942": 64}
