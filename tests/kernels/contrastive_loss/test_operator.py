# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The contrastive loss's kernels as operators of PyTorch: compiled, under autocast, without gradients, strided."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mesm_plugin.kernels import iou_positive_contrastive_loss
from mesm_plugin.kernels.backend import ENVIRONMENT_VARIABLE
from mesm_plugin.kernels.contrastive_loss import operator
from tests.kernels.contrastive_loss.cases import Case, random_case
from tests.kernels.host_sync_guard import host_sync_guard

RELEASED = {"iou": "giou", "form": "mean_log", "anchor": "segment", "eps": 1e-6}


def loss_of(case: Case, text: Tensor, segment: Tensor, **options: Any) -> Tensor:
    return iou_positive_contrastive_loss(
        text, segment, case.moments, case.group, gamma=0.5, tau=case.tau, backend="triton", **options
    )


def leaves(case: Case) -> tuple[Tensor, Tensor]:
    return case.text.clone().requires_grad_(), case.segment.clone().requires_grad_()


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("grouped", [True, False])
def test_opcheck(kernel_device: torch.device, reduction: str, grouped: bool) -> None:
    case = random_case(3, 5, 16, device=kernel_device, grouped=grouped)
    inputs = (*leaves(case), *case.moments, *(case.group or (None, None)), case.tau.requires_grad_(), 0.5)
    torch.library.opcheck(operator.contrast, (*inputs, 1e-6, "giou", "mean_log", reduction))
    statistics = torch.ones(4, 3, device=kernel_device)
    grad = torch.ones(3 if reduction == "none" else (), device=kernel_device)
    arguments = [x.detach() if isinstance(x, Tensor) else x for x in (*inputs, "giou", "mean_log", reduction)]
    torch.library.opcheck(operator.differentiate, (*arguments, statistics, grad))


@pytest.mark.parametrize("compiler", ["eager", "aot_eager", "inductor"])
def test_compiled_equals_eager(kernel_device: torch.device, compiler: str) -> None:
    case = random_case(9, 7, 16, device=kernel_device)
    torch._dynamo.reset()

    def step(text: Tensor, segment: Tensor, log_tau: Tensor) -> Tensor:
        options: dict[str, Any] = {"gamma": 0.5, "tau": log_tau.exp(), "backend": "triton", **RELEASED}
        return iou_positive_contrastive_loss(text * 1.5, segment, case.moments, case.group, **options)

    compiled = torch.compile(step, fullgraph=True, backend=compiler)
    results = []
    for function in (step, compiled):
        inputs = (*leaves(case), torch.tensor(-0.7, device=kernel_device, requires_grad=True))
        loss = function(*inputs)
        loss.backward()
        results.append((loss, *(x.grad for x in inputs)))
    torch.testing.assert_close(results[1], results[0], rtol=1e-6, atol=1e-6)


def test_dynamic_shapes_recompile_at_most_twice(kernel_device: torch.device) -> None:
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")

    @torch.compile(fullgraph=True, backend=counter)
    def step(text: Tensor, segment: Tensor, moments: Tensor, group: Tensor) -> Tensor:
        return iou_positive_contrastive_loss(text, segment, moments, group, gamma=0.5, backend="triton")

    for count in (5, 8, 13, 21, 40):
        case = random_case(count, count, 16, device=kernel_device)
        text, segment = leaves(case)
        assert case.group is not None
        loss = step(text, segment, case.moments[0], case.group[0])
        loss.backward()
        expected = iou_positive_contrastive_loss(text, segment, case.moments[0], case.group[0], gamma=0.5)
        torch.testing.assert_close(loss, expected, rtol=0, atol=1e-5)
    assert counter.frame_count <= 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_computes_in_float32(kernel_device: torch.device, dtype: torch.dtype) -> None:
    case = random_case(9, 7, 16, device=kernel_device)
    text, segment = case.text.to(dtype), case.segment
    expected = loss_of(case, text.float(), segment)
    text.requires_grad_()
    with torch.autocast(kernel_device.type, dtype=dtype):
        loss = loss_of(case, text, segment)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)
    loss.backward()
    assert text.grad is not None
    assert text.grad.dtype == dtype


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(kernel_device: torch.device, mode: Callable[[], Any]) -> None:
    case = random_case(9, 7, 16, device=kernel_device)
    text, segment = leaves(case)
    expected = loss_of(case, text, segment)
    with mode():
        loss = loss_of(case, text, segment)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing(use_reentrant: bool, kernel_device: torch.device) -> None:
    case = random_case(9, 7, 16, device=kernel_device)
    plain, recomputed = leaves(case), leaves(case)
    loss_of(case, *plain).backward()
    checkpoint(lambda *features: loss_of(case, *features), *recomputed, use_reentrant=use_reentrant).backward()
    for a, b in zip(plain, recomputed, strict=True):
        assert torch.equal(a.grad, b.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["triton", "reference"])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float16, 2.0**-11), (torch.bfloat16, 2.0**-8)], ids=str)
def test_learned_temperature_in_half_precision(
    dtype: torch.dtype, limit: float, backend: Any, kernel_device: torch.device
) -> None:
    # More segments than texts, all in one group.
    case = random_case(7, 9, 16, device=kernel_device, grouped=False)
    tau = case.tau.to(dtype).reshape(1).requires_grad_()
    assert tau == case.tau
    loss = iou_positive_contrastive_loss(
        case.text, case.segment, case.moments, case.group, gamma=0.5, tau=tau, backend=backend
    )
    loss.backward()
    assert tau.grad is not None
    assert (tau.grad.dtype, tau.grad.shape) == (dtype, (1,))
    # Rounded once, to the dtype of the temperature.
    expected = case.truth(gamma=0.5).tau.item()
    assert tau.grad.item() == pytest.approx(expected, rel=limit)


def test_only_one_side_has_a_gradient(kernel_device: torch.device) -> None:
    case = random_case(9, 7, 16, device=kernel_device)
    text, segment = leaves(case)
    loss_of(case, text, segment).backward()
    alone = case.segment.clone().requires_grad_()
    loss_of(case, case.text, alone).backward()
    assert torch.equal(alone.grad, segment.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T.contiguous().T,
        lambda x: torch.stack((x, x * torch.nan), dim=1)[:, 0],
        lambda x: torch.cat((x[:, :1], x), dim=1)[:, 1:],
        lambda x: x[:1].expand(x.shape),
        lambda x: x[:, :13],
    ],
    ids=["transposed", "every other row", "unaligned", "expanded", "odd channels"],
)
def test_layouts(kernel_device: torch.device, view: Callable[[Tensor], Tensor]) -> None:
    case = random_case(9, 9, 16, device=kernel_device)
    results = []
    for dense in (False, True):
        leaf_text, leaf_segment = leaves(case)
        text, segment = view(leaf_text), view(leaf_segment)
        if dense:
            text, segment = text.contiguous(), segment.contiguous()
        loss = loss_of(case, text, segment, **RELEASED)
        loss.backward()
        results.append((loss, leaf_text.grad, leaf_segment.grad))
    for strided, contiguous in zip(*results, strict=True):
        assert torch.equal(strided.nan_to_num(), contiguous.nan_to_num())


@pytest.mark.parametrize("backend", ["triton", "reference"])
def test_host_waits_for_nothing(backend: Any) -> None:
    text, segment = (torch.zeros(7, 12, device="meta", requires_grad=True) for _ in range(2))
    moments, group = torch.zeros(7, 2, device="meta"), torch.zeros(7, dtype=torch.int64, device="meta")
    tau = torch.ones((), device="meta", requires_grad=True)
    with host_sync_guard():
        for reduction in ("none", "mean"):
            options: dict[str, Any] = {"reduction": reduction, "backend": backend}
            iou_positive_contrastive_loss(text, segment, moments, **options).sum().backward()
            iou_positive_contrastive_loss(text, segment, (moments, moments), group, tau=tau, **options).sum().backward()
    assert [x.grad.shape for x in (text, segment, tau)] == [(7, 12), (7, 12), ()]  # type: ignore[union-attr]


def test_environment_forces_the_kernels(interpreter: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    case = random_case(5, 5, 16, device=interpreter)
    calls = []
    monkeypatch.setattr(operator, "contrast", lambda *inputs: calls.append(inputs) or (inputs[0].sum(),))
    for forced, backend, count in (("", "auto", 0), ("reference", "triton", 0), ("triton", "reference", 1)):
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, forced)
        iou_positive_contrastive_loss(case.text, case.segment, case.moments, backend=backend)  # type: ignore[arg-type]
        assert len(calls) == count


def test_number_of_splits() -> None:
    assert operator.number_of_splits(1, 1) == 1
    assert operator.number_of_splits(2, 3) == 1
    assert operator.number_of_splits(4, 4) == 4
    assert operator.number_of_splits(16, 16) == 16
    assert operator.number_of_splits(32, 32) == 4
    assert operator.number_of_splits(128, 128) == 1
    assert operator.number_of_splits(1, 1000) == 16


def test_every_kernel_argument_has_a_type() -> None:
    kernels = pytest.importorskip("mesm_plugin.kernels.contrastive_loss.triton_kernels")
    forms = operator.specialisations("sm_86")
    assert len({(form.kernel, form.precision, *form.constants.items()) for form in forms}) == len(forms) == 38
    assert len(operator.specialisations("gfx942")) == 30
    for form in forms:
        types = operator.argument_types(form.kernel, form.precision)
        names = getattr(kernels, form.kernel).arg_names
        assert sorted([*types, *form.constants]) == sorted(names)
    assert operator.argument_types(operator.FORWARD, "bf16")["rows"] == "*bf16"
    assert operator.argument_types(operator.BACKWARD, "tf32")["grad_columns"] == "*fp32"
    assert operator.argument_types(operator.MERGE, "fp32") == {
        "partials": "*fp32",
        "statistics": "*fp32",
        "loss": "*fp32",
        "num_rows": "i32",
        "divisor": "i32",
        "per_row": "i32",
        "eps": "fp32",
    }
