# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Compiles kernels for GPUs that need not be there, and says what is wrong with the result."""

import importlib
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any

from bench import binaries
from bench.gpus import GPUS
from mesm_plugin.kernels.specialisation import Specialisation

OPERATIONS = ("cross_attention", "contrastive_loss")
# Constants that only say how a kernel computes what `Specialisation.precision` says.
NUMERIC_CONSTANTS = ("ACCUMULATOR", "PRECISION", "EMULATE_BF16")


@dataclass
class Binary:
    """A compiled kernel.

    Args:
        architecture: As in `mesm_plugin.kernels.tiles`.
        kernel, precision, warps, stages: Of the specialisation.
        constants: Its constants but for the numeric ones.
        registers: Registers of a thread.
        local_bytes: Bytes of local memory of a thread, as for spilled registers.
        spills: Spilled vector registers (AMD), or instructions on local memory (NVIDIA).
        shared: Bytes of shared memory of a block.
        blocks: Blocks that a unit of the GPU in bench/gpus.py can hold at once.
        occupancy: Share of its most resident warps that these are.
        instructions: Instructions of the kernel, loops counted once.
        matrix_instructions: Those that multiply matrices.
        has_product: Whether the kernel multiplies matrices.
        operand_loads: Loads of the operands of matrix products, by bytes of a thread.
        widest_load: Bytes of a thread that such loads should have: 16, or fewer where the smallest operand has fewer.
        atomics: Atomic operations.
        seconds: Time of the compilation.
        error: Why there is no binary.
    """

    architecture: str
    kernel: str
    precision: str
    warps: int
    stages: int
    constants: dict[str, Any]
    registers: int = 0
    local_bytes: int = 0
    spills: int = 0
    shared: int = 0
    blocks: int = 0
    occupancy: float = 0.0
    instructions: int = 0
    matrix_instructions: int = 0
    has_product: bool = False
    operand_loads: dict[int, int] = field(default_factory=dict)
    widest_load: int = 0
    atomics: int = 0
    seconds: float = 0.0
    error: str = ""

    @property
    def label(self) -> str:
        """Constants in words: names of those that are true, name=value of numbers."""
        return " ".join(
            name.lower() if value is True else f"{name.lower()}={value}"
            for name, value in self.constants.items()
            if value is not False
        )

    def faults(self) -> list[str]:
        """Why a launch must not choose this binary; empty where it may."""
        if self.error:
            return [f"does not compile: {self.error}"]
        limit = GPUS[self.architecture].shared_of_block
        faults = []
        if self.local_bytes or self.spills:
            faults.append(f"spills: {self.local_bytes} bytes of local memory, {self.spills} spills")
        if self.shared > limit:
            faults.append(f"shared memory: {self.shared} bytes, the limit is {limit}")
        elif self.blocks == 0:
            faults.append("no block fits on the GPU")
        if self.atomics:
            faults.append(f"{self.atomics} atomic operations")
        if self.has_product:
            # IEEE float32 has no matrix instructions on NVIDIA GPUs.
            if self.matrix_instructions == 0 and self.precision != "fp32":
                faults.append("no matrix instructions")
            narrowest = min(self.operand_loads, default=0)
            if narrowest < self.widest_load:
                faults.append(f"operands are loaded by {narrowest} bytes, expected {self.widest_load}")
        return faults


def compile_specialisation(operation: str, specialisation: Specialisation, architecture: str) -> Binary:
    """Compiles a kernel of an operation, one of `OPERATIONS`, for an architecture of `GPUS`.

    Arguments are as aligned as the launchers guarantee. Errors of the compiler end up in the result.
    """
    constants = {name: value for name, value in specialisation.constants.items() if name not in NUMERIC_CONSTANTS}
    binary = Binary(
        architecture,
        specialisation.kernel,
        specialisation.precision,
        specialisation.num_warps,
        specialisation.num_stages,
        constants,
    )
    begin = time.perf_counter()
    try:
        compiled = _compile(operation, specialisation, architecture)
    except Exception as error:  # what a compiler raises has no common class
        # Triton's errors quote the kernel first.
        binary.error = f"{type(error).__name__}: {str(error).strip()}".splitlines()[-1]
        return binary
    binary.seconds = time.perf_counter() - begin
    _read(binary, compiled)
    return binary


def _compile(operation: str, specialisation: Specialisation, architecture: str) -> Any:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, make_backend

    folder = f"mesm_plugin.kernels.{operation}"
    kernel = getattr(importlib.import_module(f"{folder}.triton_kernels"), specialisation.kernel)
    types = importlib.import_module(f"{folder}.operator").argument_types(
        specialisation.kernel, specialisation.precision
    )
    lanes = GPUS[architecture].lanes
    if architecture.startswith("sm_"):
        target = GPUTarget("cuda", int(architecture.removeprefix("sm_")), lanes)
    else:
        target = GPUTarget("hip", architecture, lanes)
    backend = make_backend(target)
    signature, attributes = {}, {}
    for number, parameter in enumerate(kernel.params):
        if parameter.is_constexpr:
            signature[parameter.name] = "constexpr"
            continue
        signature[parameter.name] = kind = types[parameter.name]
        # What a launch finds out about an argument: D = divisible by 16, S = a tensor below 2 GiB.
        found = ""
        if kind.startswith("*"):
            found += "" if parameter.do_not_specialize_on_alignment else "D"
            found += "S" if target.backend == "hip" else ""
        elif kind.startswith("i"):
            found += "" if parameter.do_not_specialize else "D"
        if described := backend.parse_attr(found):
            attributes[(number,)] = described
    source = ASTSource(kernel, signature, constexprs=dict(specialisation.constants), attrs=attributes)
    options = {name: value for name, value in specialisation.options().items() if name not in specialisation.constants}
    return triton.compile(source, target=target, options=options)


def _read(binary: Binary, compiled: Any) -> None:
    """Fills in what the compiler made."""
    gpu = GPUS[binary.architecture]
    ttir = compiled.asm["ttir"]
    binary.has_product = "tt.dot" in ttir
    binary.atomics = ttir.count("tt.atomic")
    binary.shared = compiled.metadata.shared
    if "cubin" in compiled.asm:
        assembly = compiled.asm["ptx"]
        sass, usage = _disassemble(compiled.asm["cubin"])
        instructions = binaries.sass_instructions(sass)
        binary.registers = usage["REG"]
        binary.local_bytes = usage["STACK"] + usage["LOCAL"]
        binary.spills = binaries.local_memory_instructions(instructions)
    else:
        assembly = compiled.asm["amdgcn"]
        instructions = binaries.amdgcn_instructions(assembly)
        notes = binaries.amdgcn_metadata(assembly)
        binary.registers = notes["vgpr_count"]
        binary.local_bytes = notes["private_segment_fixed_size"]
        binary.spills = notes["vgpr_spill_count"] + binaries.local_memory_instructions(instructions)
    binary.instructions = instructions.total()
    binary.matrix_instructions = binaries.matrix_instructions(instructions)
    binary.operand_loads = dict(sorted(binaries.operand_load_widths(assembly).items()))
    binary.widest_load = min(16, binaries.smallest_tile(ttir) // (binary.warps * gpu.lanes))
    tensor_memory = getattr(compiled.metadata, "tmem_size", 0)
    binary.blocks = gpu.resident_blocks(binary.registers, binary.warps, binary.shared, tensor_memory)
    binary.occupancy = gpu.occupancy(binary.blocks, binary.warps)


def _disassemble(cubin: bytes) -> tuple[str, dict[str, int]]:
    """Disassembly and resource usage of a binary for NVIDIA GPUs, by the tools that Triton brings along."""
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()

        def run(tool: str, *options: str) -> str:
            path = getattr(knobs.nvidia, tool).path
            return subprocess.run([path, *options, file.name], check=True, capture_output=True, text=True).stdout

        return run("nvdisasm", "-c"), binaries.resource_usage(run("cuobjdump", "--dump-resource-usage"))
