# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mesm_plugin.kernels import ProblemTable, bidirectional_cross_attention, packed_bidirectional_cross_attention
from mesm_plugin.kernels.cross_attention import operator
from tests.kernels.cross_attention.cases import LIMITS, assert_within, in_float64, outputs_and_gradients, random_inputs
from tests.kernels.host_sync_guard import host_sync_guard


def operands(device: torch.device, *, packed: bool, dropout: bool) -> tuple[Any, ...]:
    """Positional arguments of the operator, of few numbers."""
    inputs = list(random_inputs(device, torch.float32, 3, 2, pairs=1, heads=1).values())
    tables, lengths = [], [3, 2, 2, 3]
    if packed:
        inputs = [x[0] for x in inputs]
        tables = [ProblemTable([problem], device).table for problem in ((1, 2, 0, 2), (0, 1, 1, 2))]
        lengths = [2, 2, 1, 2]
    inputs = [x.requires_grad_() if x.is_floating_point() else x for x in inputs]
    seed = torch.tensor(3, device=device) if dropout else None
    return inputs, tables, lengths, seed, 0.1 if dropout else 0.0, 0.25


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_opcheck_forward(packed: bool, kernel_device: torch.device) -> None:
    torch.library.opcheck(operator.attend, operands(kernel_device, packed=packed, dropout=not packed))


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_opcheck_backward(packed: bool, kernel_device: torch.device) -> None:
    arguments = operands(kernel_device, packed=packed, dropout=packed)
    arguments = ([x.detach() for x in arguments[0]], *arguments[1:])
    clips, words, *saved = operator.attend(*arguments)
    torch.library.opcheck(operator.differentiate, (*arguments, *saved, torch.ones_like(clips), torch.ones_like(words)))


@pytest.mark.parametrize("architecture", ["sm_86", "sm_90", "gfx942", "sm_999"])
def test_specialisations_are_all_that_a_launch_can_choose(architecture: str) -> None:
    pytest.importorskip("triton")
    forms = operator.specialisations(architecture)
    precisions = {"fp16", "bf16", "fp32"} | ({"tf32"} if architecture.startswith("sm_") else set())
    keys = {
        (form.kernel, form.precision, *(form.constants[name] for name in ("HEAD_SIZE", "BLOCK_SHORT", "DROPOUT")))
        for form in forms
    }
    # Both kernels, three head sizes, three short tiles, with and without dropout.
    assert len(keys) == len(forms) == 2 * len(precisions) * 3 * 3 * 2
    assert {form.precision for form in forms} == precisions
    assert not any(form.constants["EMULATE_BF16"] for form in forms)
    limits = {form.max_registers for form in forms}
    assert limits == ({None, 255} if architecture.startswith("sm_") else {None})
    # A block has 65536 registers.
    assert all(32 * form.num_warps * (form.max_registers or 0) <= 65536 for form in forms)
    for length in range(1, 65):
        assert operator._short_tile(length) in operator.SHORT_TILES
        assert operator._short_tile(length) >= length


def test_every_kernel_argument_has_a_type() -> None:
    kernels = pytest.importorskip("mesm_plugin.kernels.cross_attention.triton_kernels")
    for form in operator.specialisations("sm_86"):
        types = operator.argument_types(form.kernel, form.precision)
        assert sorted([*types, *form.constants]) == sorted(getattr(kernels, form.kernel).arg_names)
    types = operator.argument_types(operator.BACKWARD, "tf32")
    assert {types[name] for name in ("wide_query", "wide_grad_key", "narrow_grad_out", "narrow_log_sum")} == {"*fp32"}
    assert [types[name] for name in ("narrow_mask", "wide_table", "seed_pointer", "scale", "wide_problems")] == [
        "*u8", "*i32", "*i64", "fp32", "i32",
    ]  # fmt: skip


# --- torch.compile


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Forgets what was compiled before and after."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    ("form", "compiler", "backend"),
    [
        ("padded", "aot_eager", "triton"),
        ("padded", "aot_eager", "reference"),
        ("padded", "inductor", "triton"),
        ("padded", "inductor", "reference"),
        ("packed", "aot_eager", "triton"),
        ("packed", "aot_eager", "reference"),
        ("packed", "inductor", "triton"),
    ],
)
def test_compiled_equals_eager(form: str, compiler: str, backend: str, kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, torch.float32, 5, 3, pairs=1, heads=1)
    function: Any = bidirectional_cross_attention
    if form == "packed":
        function = packed_bidirectional_cross_attention
        inputs = {name: x[0] for name, x in inputs.items()}
        inputs["clip_problems"] = ProblemTable([(1, 3, 0, 2), (4, 1, 2, 1)], kernel_device)
        inputs["word_problems"] = ProblemTable([(0, 2, 1, 4)], kernel_device)
    compiled = torch.compile(function, backend=compiler, fullgraph=True)
    options = {"dropout_p": 0.3, "seed": torch.tensor(5, device=kernel_device), "backend": backend}
    expected = in_float64(outputs_and_gradients(inputs, function, **options))
    assert_within(LIMITS[torch.float32], outputs_and_gradients(inputs, compiled, **options), expected)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("backend", ["triton", "reference"])
def test_dynamic_shapes_recompile_at_most_twice(backend: str, kernel_device: torch.device) -> None:
    compilations = 0

    def count(graph: torch.fx.GraphModule, example_inputs: list[Tensor]) -> Any:
        nonlocal compilations
        compilations += 1
        return graph.forward

    compiled = torch.compile(bidirectional_cross_attention, backend=count, fullgraph=True)
    for clips, words, pairs, queries in ((9, 3, 2, 2), (11, 4, 3, 2), (20, 5, 4, 3), (33, 17, 5, 4), (8, 18, 6, 5)):
        inputs = random_inputs(kernel_device, torch.float32, clips, words, pairs=pairs, queries=queries, heads=1)
        outputs = compiled(**inputs, backend=backend)
        expected = bidirectional_cross_attention(**inputs, backend=backend)
        for x, y in zip(outputs, expected, strict=True):
            torch.testing.assert_close(x, y)
    assert compilations <= 3


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("backend", ["triton", "reference"])
def test_changing_tables_recompile_at_most_twice(backend: str, kernel_device: torch.device) -> None:
    compilations = 0

    def count(graph: torch.fx.GraphModule, example_inputs: list[Tensor]) -> Any:
        nonlocal compilations
        compilations += 1
        return graph.forward

    compiled = torch.compile(packed_bidirectional_cross_attention, backend=count, fullgraph=True)
    generator = torch.Generator().manual_seed(0)
    for number, problems in enumerate((2, 3, 5, 4, 2)):
        # Stretches of other lengths every time, and another number of problems.
        clips, words = ([2 + (7 * i + shift + number) % 9 for i in range(problems)] for shift in (0, 3))
        tables = ProblemTable.from_lengths(clips, words, kernel_device), ProblemTable.from_lengths(words, clips)
        rows = {"q_clips": clips, "k_words": words, "v_words": words, "q_words": words, "k_clips": clips}
        inputs = {
            name: torch.randn(sum(lengths), 1, 16, generator=generator).to(kernel_device)
            for name, lengths in (rows | {"v_clips": clips}).items()
        }
        options: dict[str, Any] = {"clip_problems": tables[0], "word_problems": tables[1], "backend": backend}
        expected = packed_bidirectional_cross_attention(**inputs, **options)
        for x, y in zip(compiled(**inputs, **options), expected, strict=True):
            torch.testing.assert_close(x, y)
    assert compilations <= 3


@pytest.mark.usefixtures("fresh_compiler")
def test_changing_numbers_recompile_once() -> None:
    compilations = 0

    def count(graph: torch.fx.GraphModule, example_inputs: list[Tensor]) -> Any:
        nonlocal compilations
        compilations += 1
        return graph.forward

    compiled = torch.compile(bidirectional_cross_attention, backend=count, fullgraph=True)
    inputs = random_inputs(torch.device("cpu"), torch.float32, 9, 3, heads=1)
    for step in range(4):
        options: dict[str, Any] = {"dropout_p": 0.1 + 0.1 * step, "scale": 0.5 + step, "seed": 3 + step}
        expected = bidirectional_cross_attention(**inputs, **options)
        for x, y in zip(compiled(**inputs, **options), expected, strict=True):
            torch.testing.assert_close(x, y)
    assert compilations == 2


# --- modes of autograd


def test_without_gradients(kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, torch.float32, 20, 5)
    options = {"dropout_p": 0.1, "seed": 1, "backend": "triton"}
    expected = bidirectional_cross_attention(**inputs, **options)
    leaves = {name: x.requires_grad_() if x.is_floating_point() else x for name, x in inputs.items()}
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            outputs = bidirectional_cross_attention(**leaves, **options)
        for x, y in zip(outputs, expected, strict=True):
            assert torch.equal(x, y)
            assert not x.requires_grad


def test_gradients_of_some_inputs(kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, torch.float32, 20, 5)
    expected = outputs_and_gradients(inputs, backend="triton")
    key = inputs["k_words"].requires_grad_()
    out, _ = bidirectional_cross_attention(**inputs, backend="triton")
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).bfloat16().to(out)
    (gradient,) = torch.autograd.grad(out, key, upstream)
    assert torch.equal(gradient, expected["gradient of k_words"])


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing(use_reentrant: bool, kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, torch.float32, 20, 5)

    def attend(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        # Without a seed, so that the recomputation must draw the same one.
        named = dict(zip(inputs, tensors, strict=True))
        return bidirectional_cross_attention(**named, dropout_p=0.4, backend="triton")

    results = []
    for checkpointed in (False, True):
        tensors = [x.detach().requires_grad_(x.is_floating_point()) for x in inputs.values()]
        torch.manual_seed(3)
        outputs = checkpoint(attend, *tensors, use_reentrant=use_reentrant) if checkpointed else attend(*tensors)
        sum(x.square().sum() for x in outputs).backward()
        results.append([*outputs, *(x.grad for x in tensors if x.requires_grad)])
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_a_step_never_waits_for_the_device(packed: bool) -> None:
    with torch.device("meta"):
        inputs: dict[str, Any] = {
            "q_clips": torch.empty(3, 20, 2, 16),
            "k_words": torch.empty(3, 5, 2, 16),
            "v_words": torch.empty(3, 5, 2, 16),
            "words_mask": torch.empty(3, 5, dtype=torch.bool),
            "q_words": torch.empty(2, 5, 2, 16),
            "k_clips": torch.empty(2, 20, 2, 16),
            "v_clips": torch.empty(2, 20, 2, 16),
            "clips_mask": torch.empty(2, 20, dtype=torch.bool),
        }
    function: Any = bidirectional_cross_attention
    if packed:
        function = packed_bidirectional_cross_attention
        inputs = {name: x.flatten(0, 1) for name, x in inputs.items()}
        inputs["clip_problems"] = ProblemTable.from_lengths([20, 7, 3], [5, 1, 2], "meta")
        inputs["word_problems"] = ProblemTable.from_lengths([5, 1], [20, 3], "meta")
    leaves = [x.requires_grad_() for x in inputs.values() if isinstance(x, Tensor) and x.is_floating_point()]
    for seed in (None, 5):
        with host_sync_guard():
            clips, words = function(**inputs, dropout_p=0.1, seed=seed, backend="triton")
            gradients = torch.autograd.grad(clips.sum() + words.sum(), leaves)
        assert [x.shape for x in (clips, words)] == [inputs["q_clips"].shape, inputs["q_words"].shape]
        assert [x.shape for x in gradients] == [x.shape for x in leaves]
