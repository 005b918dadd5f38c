# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Tile sizes of the Triton kernels per architecture, chosen by what `python -m bench.aot_report` measures.

A rule holds for the kernels, architectures, precisions and sizes that it names; the first that fits is taken.
"""

from typing import Any, NamedTuple

ANY: Any = ()


class Tile(NamedTuple):
    """Launch settings of a kernel.

    Args:
        rows: Rows of a tile of the side that a program walks along (attention: the long side; loss: its own rows).
        columns: The other side of the tile (loss); 0 where the inputs fix it (attention).
        warps: Warps of a program.
        stages: Depth of the software pipeline of loads.
        channels: Channels of a step of the product of features (loss).
        part: Channels whose gradients a program computes (loss, backward).
        registers: Most registers of a thread, on GPUs of NVIDIA; 0 = the assembler decides, which sometimes spills a
            few bytes to fit one more block on a multiprocessor.
    """

    rows: int
    columns: int
    warps: int
    stages: int
    channels: int = 0
    part: int = 0
    registers: int = 0


class Rule(NamedTuple):
    """The tile for every case in which each field is ANY or holds the case's value."""

    tile: Tile
    kernel: tuple[str, ...] = ANY
    architecture: tuple[str, ...] = ANY
    precision: tuple[str, ...] = ANY
    short: tuple[int, ...] = ANY
    head_size: tuple[int, ...] = ANY
    dropout: tuple[bool, ...] = ANY


_AMPERE = ("sm_80", "sm_86", "sm_89")

CROSS_ATTENTION = (
    Rule(Tile(16, 0, 4, 2), ("backward",), ("gfx942",), ("fp32",)),
    Rule(Tile(16, 0, 8, 1, registers=255), ("backward",), _AMPERE, ("fp32",), (64,), (64,), dropout=(False,)),
    Rule(Tile(16, 0, 8, 1), ("backward",), precision=("fp32", "tf32"), short=(64,), head_size=(64,)),
    Rule(Tile(16, 0, 8, 2), ("backward",), ("sm_120",), ("fp32",), short=(32,), head_size=(64,)),
    Rule(Tile(16, 0, 8, 1, registers=255), ("backward",), precision=("fp32",)),
    # With a shallower pipeline a few bytes of registers spill.
    Rule(Tile(16, 0, 8, 3), ("forward",), ("sm_90", "sm_100"), ("fp32",), short=(64,), head_size=(64,)),
    Rule(Tile(16, 0, 8, 3), ("forward",), ("sm_120",), ("fp32",), head_size=(64,)),
    Rule(Tile(16, 0, 8, 2), precision=("fp32",)),
    # With a pipeline, sm_90 and sm_100 would load operands of their products of 64 rows by 4 bytes.
    Rule(Tile(16, 0, 4, 1), ("backward",), precision=("tf32",), short=(64,)),
    Rule(Tile(32, 0, 8, 1), precision=("tf32",), short=(64,)),
    Rule(Tile(32, 0, 4, 2), ("backward",), precision=("tf32",), short=(32,), head_size=(64,)),
    Rule(Tile(32, 0, 4, 2), ("backward",), precision=("fp16", "bf16"), short=(64,), head_size=(64,)),
    Rule(Tile(64, 0, 4, 2), ("backward",), short=(64,)),
    Rule(Tile(32, 0, 4, 2), ("forward",), ("sm_120",), ("fp16", "bf16"), short=(32,), head_size=(16,)),
    Rule(Tile(32, 0, 4, 2), short=(64,)),
    Rule(Tile(32, 0, 2, 2, registers=255), ("backward",), precision=("fp16", "bf16"), short=(16,), head_size=(32,)),
    Rule(Tile(32, 0, 2, 2, registers=255), ("backward",), precision=("tf32",), short=(16,), head_size=(64,)),
    Rule(Tile(32, 0, 2, 2, registers=255), ("forward",), precision=("fp16", "bf16"), short=(32,), head_size=(64,)),
    Rule(Tile(32, 0, 2, 2)),
)

CONTRASTIVE_LOSS = (
    Rule(Tile(32, 32, 4, 2, channels=64, part=256), ("backward",), ("sm_120", "gfx942"), ("fp16", "bf16")),
    Rule(Tile(32, 32, 4, 2, channels=32, part=128), ("backward",), ("sm_120", "gfx942")),
    Rule(Tile(64, 64, 8, 2, channels=64, part=256), ("backward",), precision=("fp16", "bf16")),
    Rule(Tile(64, 32, 8, 2, channels=32, part=128), ("backward",)),
    Rule(Tile(64, 64, 8, 2, channels=64), precision=("fp16", "bf16")),
    Rule(Tile(64, 32, 8, 2, channels=32), precision=("fp32",)),
    Rule(Tile(64, 64, 8, 2, channels=32)),
)


def find_tile(rules: tuple[Rule, ...], **case: Any) -> Tile:
    """The tile of the first rule that fits `case`, which names fields of `Rule`.

    An architecture that no rule names, such as a newer one, takes the rules that name none.
    """
    for rule in rules:
        if all(not getattr(rule, field) or value in getattr(rule, field) for field, value in case.items()):
            return rule.tile
    raise LookupError(f"no tile for {case}")
