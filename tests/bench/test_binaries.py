# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from collections import Counter

import pytest

from bench.binaries import (
    amdgcn_instructions,
    amdgcn_metadata,
    local_memory_instructions,
    matrix_instructions,
    operand_load_widths,
    resource_usage,
    sass_instructions,
    smallest_tile,
)

SASS = """
        /*0000*/                   IMAD.MOV.U32 R1, RZ, RZ, c[0x0][0x28] ;
        /*0010*/               @P0 LDG.E.128 R4, [R2.64] ;
        /*0020*/             @!UP1 HFMA2.MMA R8, -RZ, RZ, 0, 0 ;
        /*0030*/                   HMMA.16816.F32 R8, R4, R6, R8 ;
        /*0040*/              @!PT STL [R1+0x4], R8 ;
.L_x_1:
        /*0050*/                   LDL.LU R8, [R1+0x4] ;
        /*0060*/                   EXIT ;
        /*0070*/                   NOP ;
"""

AMDGCN = """
	.file	1 "/package/attention" "triton_kernels.py"
	.file	3 "/package" "numerics.py"
	.loc	1 20 3                          ; triton_kernels.py:20:3
	s_load_dwordx4 s[0:3], s[4:5], 0x0
	buffer_load_ubyte v1, v0, s[0:3], 0 offen
	.loc	3 24 9 is_stmt 0                ; numerics.py:24:9
	v_mfma_f32_16x16x16_f16 a[0:3], v[0:1], v[2:3], a[0:3]
	buffer_load_dwordx4 v[2:5], v0, s[0:3], 0 offen
	global_load_dwordx2 v[6:7], v0, s[2:3]
	s_nop 0
	s_endpgm
	.amdhsa_next_free_vgpr 12
amdhsa.kernels:
  - .agpr_count:     4
    .name:           kernel
    .private_segment_fixed_size: 8
    .vgpr_count:     16
    .vgpr_spill_count: 2
"""

PTX = """
	.loc	1 20 3
	ld.global.b8 { %rs1 }, [ %rd1 + 0 ];
	.loc	2 24 9, function_name $L__info_string0, inlined_at 1 20 3
	@%p1 ld.global.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd2 + 0 ];
	@%p1 ld.global.L1::evict_last.v2.b32 { %r1, %r2 }, [ %rd2 + 0 ];
	cp.async.cg.shared.global [ %r1 + 0 ], [ %rd3 + 0 ], 0x10, %r5;
	cp.async.ca.shared.global [ %r1 + 0 ], [ %rd3 + 0 ], 0x4, %r5;
	.loc	1 30 3
	ld.global.b64 { %rd4 }, [ %rd1 + 0 ];
	.file	1 "/package/attention/triton_kernels.py"
	.file	2 "/package/numerics.py"
"""

TTIR = """
  %0 = tt.load %q, %m, %c : tensor<64x32x!tt.ptr<f16>> loc(#loc1)
  %1 = tt.load %k, %m, %c : tensor<16x32x!tt.ptr<bf16>> loc(#loc1)
  %2 = tt.load %mask, %m, %c : tensor<16x!tt.ptr<i8>> loc(#loc2)
  %3 = tt.load %seed : !tt.ptr<i64> loc(#loc2)
"""


def test_sass() -> None:
    instructions = sass_instructions(SASS)
    assert instructions.total() == 7
    assert instructions["LDG.E.128"] == 1
    assert matrix_instructions(instructions) == 1
    assert local_memory_instructions(instructions) == 2


@pytest.mark.parametrize("name", ["HMMA.1688.F32.TF32", "HGMMA.64x32x16.F32", "UTCHMMA", "DMMA.884", "QMMA.16832.F32"])
def test_matrix_instructions_of_other_gpus(name: str) -> None:
    assert matrix_instructions(Counter({name: 3, "HFMA2.MMA": 1, "IMAD": 1})) == 3


def test_amdgcn() -> None:
    instructions = amdgcn_instructions(AMDGCN)
    assert matrix_instructions(instructions) == 1
    assert instructions["s_endpgm"] == 1
    assert "s_nop" not in instructions
    assert local_memory_instructions(Counter({"scratch_load_dword": 1, "ds_read_b32": 2})) == 1
    notes = amdgcn_metadata(AMDGCN)
    assert (notes["vgpr_count"], notes["vgpr_spill_count"], notes["private_segment_fixed_size"]) == (16, 2, 8)


def test_resource_usage() -> None:
    usage = resource_usage("Resource usage:\n Function kernel:\n  REG:168 STACK:16 SHARED:0 LOCAL:0 CONSTANT[0]:576\n")
    assert (usage["REG"], usage["STACK"], usage["LOCAL"]) == (168, 16, 0)
    with pytest.raises(ValueError, match="report must have a line with REG:, got 'nothing'"):
        resource_usage("nothing")


def test_widths_of_operand_loads() -> None:
    assert operand_load_widths(PTX) == {16: 2, 8: 1, 4: 1}
    assert operand_load_widths(AMDGCN) == {16: 1, 8: 1}


def test_smallest_tile() -> None:
    assert smallest_tile(TTIR) == 16 * 32 * 2
    assert smallest_tile("") == 0
