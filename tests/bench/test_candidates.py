# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from bench import candidates
from bench.candidates import ATTENTION_BACKENDS, BLOCK_BACKENDS, LOSS_BACKENDS, Candidate, unavailable
from bench.kernel_cases import AttentionCase, AttentionData

CPU = torch.device("cpu")


def test_triton_is_not_timed_on_a_cpu() -> None:
    for backends in (ATTENTION_BACKENDS, BLOCK_BACKENDS, LOSS_BACKENDS):
        assert "triton" in backends
        reasons = {backend: unavailable(backend, CPU) for backend in backends if backend != "compiled"}
        skipped = {backend for backend, reason in reasons.items() if reason}
        assert skipped == {backend for backend in backends if backend.endswith("triton")}
        assert all("there is no GPU" in str(reasons[backend]) for backend in skipped)


def test_interpreted_kernels_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "TRITON_IS_INSTALLED", True)
    monkeypatch.setattr(candidates, "interpreting", lambda: True)
    assert "TRITON_INTERPRET=1 is in the environment" in str(unavailable("triton", torch.device("cuda")))


def test_compiled_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert "torch.compile needs a C++ compiler" in str(unavailable("compiled", CPU))
    assert unavailable("reference", CPU) is None


def test_gradients_come_in_the_order_of_inputs_and_parameters() -> None:
    weight = torch.tensor(3.0, requires_grad=True)
    candidate = Candidate(lambda x, y: (x * y * weight,), [torch.tensor(5.0), torch.tensor(7.0)], [torch.tensor(1.0)])
    candidate.parameters = [weight]
    assert [float(x) for x in candidate.forward_backward()] == [21.0, 15.0, 35.0]
    [output] = candidate.forward()
    assert (float(output), output.requires_grad) == (105.0, False)


def test_packed_inputs_hold_no_padding() -> None:
    data = AttentionData(AttentionCase("two", (8, 5), (3, 2)), torch.float32, CPU)
    rows = [len(x) for x in candidates.attention("packed reference", data, 0.0).inputs]
    assert rows == [13, 5, 5, 5, 13, 13]


def test_too_little_memory_is_no_failure() -> None:
    pytest.importorskip("pytest_benchmark")
    from bench.conftest import _prepare

    def make() -> Candidate:
        raise torch.OutOfMemoryError("out of memory")

    assert _prepare(make, lambda candidate: 0.0, False, CPU) is None
