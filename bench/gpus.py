# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Limits and peak rates of one GPU per architecture, from its maker's documents."""

from collections.abc import Mapping
from dataclasses import dataclass

KiB = 1024


@dataclass(frozen=True)
class Gpu:
    """What bounds a kernel on a GPU.

    A unit is a streaming multiprocessor or a compute unit; each has four partitions with registers of their own.

    Args:
        name: Product.
        architecture: As in `mesm_plugin.kernels.tiles`.
        lanes: Threads of a warp.
        shared_of_block: Bytes of shared memory that a block can have.
        shared_of_unit: Bytes of shared memory of a unit.
        shared_overhead: Bytes that every resident block takes besides its own.
        warps: Most resident warps of a partition.
        blocks: Most resident blocks of a unit.
        bandwidth: Bytes a second from and to device memory.
        flops: Floating-point operations a second by precision, accumulated in float32: matrix instructions without
            sparsity, for "fp32" ordinary ones on NVIDIA GPUs.
        tensor_memory: Columns of tensor memory of a unit.
    """

    name: str
    architecture: str
    lanes: int
    shared_of_block: int
    shared_of_unit: int
    shared_overhead: int
    warps: int
    blocks: int
    bandwidth: float
    flops: Mapping[str, float]
    tensor_memory: int = 0

    def resident_blocks(self, registers: int, warps: int, shared: int, tensor_memory: int = 0) -> int:
        """Blocks that a unit can hold at once.

        Args:
            registers: Registers of a thread.
            warps: Warps of a block.
            shared: Bytes of shared memory of a block.
            tensor_memory: Columns of tensor memory of a block.
        """
        # All of these GPUs have 512 registers of each lane in a partition, and give them out in eights.
        by_registers = min(self.warps, 512 // max(8, -(-registers // 8) * 8))
        bounds = [4 * by_registers // warps, self.blocks]
        if shared + self.shared_overhead:
            bounds.append(self.shared_of_unit // (shared + self.shared_overhead))
        if tensor_memory:
            bounds.append(self.tensor_memory // tensor_memory)
        return min(bounds)

    def occupancy(self, blocks: int, warps: int) -> float:
        """Share of the most resident warps that `blocks` blocks of `warps` warps are."""
        return blocks * warps / (4 * self.warps)


def _flops(half: float, tf32: float, fp32: float) -> dict[str, float]:
    """Peak rates from 10^12 operations a second."""
    return {"fp16": half * 1e12, "bf16": half * 1e12, "tf32": tf32 * 1e12, "fp32": fp32 * 1e12}


GPUS = {
    gpu.architecture: gpu
    for gpu in (
        Gpu("A100 SXM 80 GB", "sm_80", 32, 163 * KiB, 164 * KiB, KiB, 16, 32, 2.039e12, _flops(312, 156, 19.5)),
        Gpu("RTX 3090", "sm_86", 32, 99 * KiB, 100 * KiB, KiB, 12, 16, 0.936e12, _flops(71, 35.6, 35.6)),
        Gpu("RTX 4090", "sm_89", 32, 99 * KiB, 100 * KiB, KiB, 12, 24, 1.008e12, _flops(165.2, 82.6, 82.6)),
        Gpu("H100 SXM", "sm_90", 32, 227 * KiB, 228 * KiB, KiB, 16, 32, 3.35e12, _flops(989, 494, 67)),
        Gpu("B200", "sm_100", 32, 227 * KiB, 228 * KiB, KiB, 16, 32, 8e12, _flops(2250, 1125, 75), 512),
        Gpu("RTX 5090", "sm_120", 32, 99 * KiB, 100 * KiB, KiB, 12, 24, 1.792e12, _flops(209.5, 104.8, 104.8)),
        Gpu("MI300X", "gfx942", 64, 64 * KiB, 64 * KiB, 0, 8, 16, 5.3e12, _flops(1307, 654, 163)),
    )
}
