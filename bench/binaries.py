# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Reads what a compiler made of a kernel from its intermediate and machine code."""

import re
from collections import Counter

# Where kernels load the operands of matrix products (`numerics.load_operand`), and nothing else.
OPERAND_LOADS = "numerics.py"

_SASS = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)
_AMDGCN = re.compile(r"^[ \t]+([a-z]\w+)(?:\s|$)", re.MULTILINE)
_FILE = re.compile(r'\.file\s+(\d+)\s+(?:"[^"]*"\s+)?"([^"]*)"')
_LOCATION = re.compile(r"^\s*\.loc\s+(\d+)")
_VECTOR_LOAD = re.compile(r"ld\.global\S*?(?:\.v(\d+))?\.[a-z](\d+)\b")
_ASYNC_COPY = re.compile(r"cp\.async\.c[ag]\.shared\.global\b.*?\],\s*\[[^]]*\],\s*(\w+)")
_AMD_LOAD = re.compile(r"\b(?:buffer|global|flat)_load_(?:lds_)?(?:dword(?:x(\d))?|(short|ubyte|sbyte))")
_TILE_LOAD = re.compile(r"tt\.load .*: tensor<(\d+)x(\d+)x!tt\.ptr<[a-z]+(\d+)>")


def sass_instructions(sass: str) -> Counter[str]:
    """Instructions of a disassembly by nvdisasm, by name with modifiers; padding is left out."""
    return Counter(name for name in _SASS.findall(sass) if name != "NOP")


def amdgcn_instructions(amdgcn: str) -> Counter[str]:
    """Instructions of AMD assembly by name; padding is left out."""
    return Counter(name for name in _AMDGCN.findall(amdgcn) if name not in ("s_nop", "s_code_end"))


def matrix_instructions(instructions: Counter[str]) -> int:
    """Instructions that multiply matrices. HFMA2.MMA, whatever its name, is none."""
    pattern = re.compile(r"[HIDQ]G?MMA\.|UTC\w*MMA|v_mfma_")
    return sum(count for name, count in instructions.items() if pattern.match(name))


def local_memory_instructions(instructions: Counter[str]) -> int:
    """Instructions that load from or store to memory of a thread, such as spilled registers."""
    return sum(count for name, count in instructions.items() if re.match(r"(LDL|STL)\b|scratch_", name))


def resource_usage(report: str) -> dict[str, int]:
    """Numbers such as REG, STACK and LOCAL from `cuobjdump --dump-resource-usage` of one kernel."""
    line = next((line for line in report.splitlines() if "REG:" in line), None)
    if line is None:
        raise ValueError(f"report must have a line with REG:, got {report!r}")
    return {name: int(value) for name, value in re.findall(r"(\w+):(\d+)", line)}


def amdgcn_metadata(amdgcn: str) -> dict[str, int]:
    """Numbers such as vgpr_count and vgpr_spill_count from the notes of AMD assembly of one kernel."""
    notes = amdgcn[amdgcn.rindex("amdhsa.kernels:") :]
    return {name: int(value) for name, value in re.findall(r"\.(\w+):\s+(\d+)\s*$", notes, re.MULTILINE)}


def operand_load_widths(assembly: str) -> Counter[int]:
    """Loads of operands of matrix products from device memory, by bytes of a thread.

    Args:
        assembly: PTX or AMD assembly with source locations.
    """
    files = {number for number, name in _FILE.findall(assembly) if name.rsplit("/", 1)[-1] == OPERAND_LOADS}
    widths: Counter[int] = Counter()
    inside = False
    for line in assembly.splitlines():
        if location := _LOCATION.match(line):
            inside = location[1] in files
        elif inside:
            if load := _VECTOR_LOAD.search(line):
                widths[int(load[1] or 1) * int(load[2]) // 8] += 1
            elif load := _ASYNC_COPY.search(line):
                widths[int(load[1], 0)] += 1
            elif load := _AMD_LOAD.search(line):
                widths[{"short": 2, "ubyte": 1, "sbyte": 1}.get(load[2], 4 * int(load[1] or 1))] += 1
    return widths


def smallest_tile(ttir: str) -> int:
    """Bytes of the smallest tile that a kernel's Triton IR loads; 0 without any."""
    sizes = [int(rows) * int(columns) * int(bits) // 8 for rows, columns, bits in _TILE_LOAD.findall(ttir)]
    return min(sizes, default=0)
