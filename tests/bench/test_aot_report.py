# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path
from typing import Any

import pytest

from bench import aot_report
from bench.aot_compile import Binary
from mesm_plugin.kernels.cross_attention import operator

RIGHT: dict[str, Any] = {
    "architecture": "sm_86",
    "kernel": "attend",
    "precision": "fp16",
    "warps": 4,
    "stages": 2,
    "constants": {"HEAD_SIZE": 32, "DROPOUT": True, "GIOU": False},
    "registers": 96,
    "blocks": 4,
    "matrix_instructions": 16,
    "has_product": True,
    "operand_loads": {16: 8},
    "widest_load": 16,
}


def binary(**changes: Any) -> Binary:
    return Binary(**RIGHT | changes)


def test_right_binaries_have_no_fault() -> None:
    assert binary().faults() == []
    assert binary(precision="fp32", matrix_instructions=0).faults() == []
    assert binary(operand_loads={8: 1, 16: 8}, widest_load=8).faults() == []
    assert binary(has_product=False, matrix_instructions=0, operand_loads={}).faults() == []
    assert binary().label == "head_size=32 dropout"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"spills": 3}, "spills: 0 bytes of local memory, 3 spills"),
        ({"local_bytes": 16}, "spills: 16 bytes of local memory, 0 spills"),
        ({"shared": 100 * 1024, "blocks": 0}, "shared memory: 102400 bytes, the limit is 101376"),
        ({"blocks": 0}, "no block fits on the GPU"),
        ({"atomics": 2}, "2 atomic operations"),
        ({"matrix_instructions": 0}, "no matrix instructions"),
        ({"operand_loads": {4: 2, 16: 8}}, "operands are loaded by 4 bytes, expected 16"),
        ({"operand_loads": {}}, "operands are loaded by 0 bytes, expected 16"),
        ({"error": "OutOfResources: too much"}, "does not compile: OutOfResources: too much"),
    ],
)
def test_each_fault_is_found(changes: dict[str, Any], fault: str) -> None:
    assert binary(**changes).faults() == [fault]


def test_offenders_are_named_and_fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(aot_report, "compile_all", lambda *_: [binary(), binary(atomics=1)])
    assert aot_report.main(["--arch", "sm_86"]) == 1
    out = capsys.readouterr().out
    assert "FAULT sm_86 attend fp16 head_size=32 dropout: 1 atomic operations" in out
    assert "2 binaries, 1 with faults" in out
    assert "nothing of them measured" in out


def test_compiles_without_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("triton")
    specialisation = operator.specialise(operator.FORWARD, "sm_86", "bf16", 16, 32, dropout=False)
    monkeypatch.setattr(aot_report, "tasks", lambda *_: [("cross_attention", specialisation, "sm_86")])
    file = tmp_path / "report.json"
    assert aot_report.main(["--arch", "sm_86", "--jobs", "1", "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    (found,) = report["binaries"]
    assert found["faults"] == []
    assert found["kernel"] == "bidirectional_cross_attention_forward"
    assert 32 <= found["registers"] <= 255
    assert found["matrix_instructions"] >= 8
    assert "16" in found["operand_loads"]
    assert 0 < found["shared"] <= 99 * 1024
    assert found["occupancy"] > 0
    assert {row["gpu"] for row in report["estimates"]} == {"RTX 3090"}


def test_compiler_errors_are_faults(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("triton")
    specialisation = operator.specialise(operator.FORWARD, "sm_86", "bf16", 16, head_size=24, dropout=False)
    monkeypatch.setattr(aot_report, "tasks", lambda *_: [("cross_attention", specialisation, "sm_86")])
    assert aot_report.main(["--arch", "sm_86", "--jobs", "1"]) == 1
    assert "does not compile: " in capsys.readouterr().out


def test_every_specialisation_becomes_a_task() -> None:
    pytest.importorskip("triton")
    chosen = aot_report.tasks(["sm_90", "gfx942"], "attention_backward", ["bf16", "tf32"])
    assert {operation for operation, _, _ in chosen} == {"cross_attention"}
    assert {(architecture, s.precision) for _, s, architecture in chosen} == {
        ("sm_90", "bf16"),
        ("sm_90", "tf32"),
        ("gfx942", "bf16"),
    }
    everything = [s for _, s, _ in aot_report.tasks(["sm_90"], "", []) if s.kernel == operator.FORWARD]
    assert everything == [s for s in operator.specialisations("sm_90") if s.kernel == operator.FORWARD]


def test_nothing_to_compile_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        aot_report.main(["--kernel", "convolution"])
    assert "no kernel has 'convolution' in its name" in capsys.readouterr().err
