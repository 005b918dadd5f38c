# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mesm_plugin.kernels import (
    ProblemTable,
    bidirectional_cross_attention,
    packed_bidirectional_cross_attention,
)
from mesm_plugin.kernels.backend import ENVIRONMENT_VARIABLE
from mesm_plugin.kernels.cross_attention import cross_attention
from tests.kernels.cross_attention.cases import (
    LIMITS,
    assert_within,
    error,
    in_float64,
    outputs_and_gradients,
    random_inputs,
)

CPU = torch.device("cpu")
NAMES = tuple(random_inputs(CPU, torch.float32, 2, 1))
WIDE, NARROW = NAMES[:4], NAMES[4:]


@pytest.fixture(autouse=True)
def _no_forced_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)


def attend_apart(**inputs: Any) -> tuple[Tensor, Tensor]:
    """Both directions, by one call each."""
    options = {name: x for name, x in inputs.items() if name not in NAMES}
    return (
        cross_attention(*(inputs[name] for name in WIDE), **options),
        cross_attention(*(inputs[name] for name in NARROW), **options),
    )


def by_torch(**inputs: Any) -> tuple[Tensor, Tensor]:
    def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        heads_first = [x.transpose(1, 2) for x in (query, key, value)]
        return F.scaled_dot_product_attention(*heads_first, attn_mask=mask[:, None, None]).transpose(1, 2)

    return attend(*(inputs[name] for name in WIDE)), attend(*(inputs[name] for name in NARROW))


def test_equals_torch(kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, torch.float32, 37, 17)
    inputs["words_mask"][:, 0] = True
    expected = outputs_and_gradients(in_float64(inputs), by_torch)
    for function in (bidirectional_cross_attention, attend_apart):
        for backend in ("triton", "reference"):
            assert_within(LIMITS[torch.float32], outputs_and_gradients(inputs, function, backend=backend), expected)


def test_scale(kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, torch.float32, 20, 5)
    larger = {name: x * 2 if name.startswith("q_") else x for name, x in inputs.items()}
    expected = bidirectional_cross_attention(**larger, backend="reference")
    for backend in ("triton", "reference"):
        outputs = bidirectional_cross_attention(**inputs, scale=0.5, backend=backend)
        for x, y in zip(outputs, expected, strict=True):
            torch.testing.assert_close(x, y)


@pytest.mark.parametrize(("queries", "keys"), [(70, 5), (5, 70), (64, 64), (65, 64), (64, 65)])
def test_one_direction_needs_one_short_side(queries: int, keys: int, kernel_device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, n, 1, 16, generator=generator).to(kernel_device) for n in (queries, keys, keys)]
    mask = torch.ones(2, keys, dtype=torch.bool, device=kernel_device)
    options = {"dropout_p": 0.1, "seed": 3}
    out = cross_attention(*inputs, mask, **options, backend="triton")
    expected = cross_attention(*(x.double() for x in inputs), mask, **options, backend="reference")
    assert error(out, expected) <= LIMITS[torch.float32]


def test_one_direction_with_two_long_sides(kernel_device: torch.device) -> None:
    x = torch.randn(1, 65, 1, 16, device=kernel_device)
    mask = torch.ones(1, 65, dtype=torch.bool, device=kernel_device)
    with pytest.raises(
        ValueError, match=r"at most 64 queries or at most 64 keys, got query of shape \(1, 65, 1, 16\) and key of shape"
    ):
        cross_attention(x, x, x, mask, backend="triton")
    torch.testing.assert_close(cross_attention(x, x, x, mask), cross_attention(x, x, x, mask, backend="reference"))


def pack(inputs: dict[str, Any], lengths: list[tuple[int, int]], word_lengths: list[tuple[int, int]]) -> dict[str, Any]:
    """Packed form of padded inputs: the first (queries, keys) rows of each problem."""

    def rows(name: str, side: int, of: list[tuple[int, int]]) -> Tensor:
        return torch.cat([x[: n[side]] for x, n in zip(inputs[name], of, strict=True)])

    device = inputs["q_clips"].device
    packed = {name: rows(name, int(name != "q_clips"), lengths) for name in WIDE}
    packed |= {name: rows(name, int(name != "q_words"), word_lengths) for name in NARROW}
    packed["clip_problems"] = ProblemTable.from_lengths(*zip(*lengths, strict=True), device)
    packed["word_problems"] = ProblemTable.from_lengths(*zip(*word_lengths, strict=True), device)
    return packed


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_packed_form_equals_the_padded_one(dropout_p: float, kernel_device: torch.device) -> None:
    lengths, word_lengths = [(20, 3), (1, 7), (0, 5), (33, 0)], [(3, 40), (7, 20)]
    inputs = random_inputs(kernel_device, torch.float32, 40, 7, pairs=4, queries=2)
    for mask, of in (("words_mask", lengths), ("clips_mask", word_lengths)):
        keys = torch.tensor([n for _, n in of], device=kernel_device)
        inputs[mask] &= torch.arange(inputs[mask].shape[1], device=kernel_device) < keys[:, None]
    packed = pack(inputs, lengths, word_lengths)
    options = {"dropout_p": dropout_p, "seed": 5}
    expected = bidirectional_cross_attention(**in_float64(inputs), backend="reference", **options)
    for backend in ("triton", "reference"):
        outputs = packed_bidirectional_cross_attention(**packed, backend=backend, **options)
        for out, padded, of in zip(outputs, expected, (lengths, word_lengths), strict=True):
            rows = torch.cat([x[:n] for x, (n, _) in zip(padded, of, strict=True)])
            assert error(out, rows) <= LIMITS[torch.float32], backend


def test_packed_masks_are_optional(kernel_device: torch.device) -> None:
    packed = pack(random_inputs(kernel_device, torch.float32, 20, 5), [(20, 3), (1, 5)], [(5, 17)])
    for name in ("words_mask", "clips_mask"):
        packed[name][:] = True
    for backend in ("triton", "reference"):
        expected = packed_bidirectional_cross_attention(**packed, backend=backend)
        packed_without = {name: x for name, x in packed.items() if not name.endswith("_mask")}
        outputs = packed_bidirectional_cross_attention(**packed_without, backend=backend)
        assert all(torch.equal(x, y) for x, y in zip(outputs, expected, strict=True))


def test_table_on_another_device(kernel_device: torch.device) -> None:
    packed = pack(random_inputs(kernel_device, torch.float32, 20, 5), [(20, 3), (1, 5)], [(5, 17)])
    expected = packed_bidirectional_cross_attention(**packed, backend="triton")
    for name in ("clip_problems", "word_problems"):
        packed[name] = ProblemTable(packed[name].problems)
    outputs = packed_bidirectional_cross_attention(**packed, backend="triton")
    assert all(torch.equal(x, y) for x, y in zip(outputs, expected, strict=True))


# --- dropout


@pytest.mark.parametrize("seed", [0, 1, -5, 2**40 + 7])
def test_a_seed_drops_the_same_weights_everywhere(seed: int, kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, torch.float32, 37, 17)
    options: dict[str, Any] = {"dropout_p": 0.4}
    expected = outputs_and_gradients(in_float64(inputs), seed=seed, backend="reference", **options)
    as_tensor = torch.tensor(seed, device=kernel_device)
    assert_within(
        LIMITS[torch.float32], outputs_and_gradients(inputs, seed=seed, backend="triton", **options), expected
    )
    by_tensor = outputs_and_gradients(inputs, seed=as_tensor, backend="triton", **options)
    assert_within(LIMITS[torch.float32], by_tensor, expected)
    other = outputs_and_gradients(inputs, seed=seed + 1, backend="triton", **options)
    assert error(other["out_clips"], expected["out_clips"]) > 0.1


@pytest.mark.parametrize("backend", ["triton", "reference"])
def test_without_a_seed_torch_draws(backend: str, kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, torch.float32, 20, 5)

    def attend() -> tuple[Tensor, Tensor]:
        return bidirectional_cross_attention(**inputs, dropout_p=0.4, backend=backend)

    torch.manual_seed(3)
    first, second = attend(), attend()
    torch.manual_seed(3)
    again = attend()
    for x, y, z in zip(first, second, again, strict=True):
        assert torch.equal(x, z)
        assert not torch.equal(x, y)


def test_nothing_is_drawn_without_dropout(kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, torch.float32, 20, 5)
    for backend in ("triton", "reference"):
        outputs = bidirectional_cross_attention(**inputs, backend=backend)
        with_seed = bidirectional_cross_attention(**inputs, seed=4, backend=backend)
        assert all(torch.equal(x, y) for x, y in zip(outputs, with_seed, strict=True))


def test_dropout_keeps_the_mean(kernel_device: torch.device) -> None:
    ones = [torch.ones(4, n, 4, 16, device=kernel_device) for n in (100, 64, 64)]
    mask = torch.ones(4, 64, dtype=torch.bool, device=kernel_device)
    out = cross_attention(*ones, mask, dropout_p=0.25, seed=1, backend="triton")
    # The mean of 4 * 4 * 100 * 64 kept-or-dropped weights has standard deviation sqrt(0.25 / 0.75 / 102400) = 0.0018.
    assert out.mean().item() == pytest.approx(1.0, abs=4 * 0.0018)


# --- layouts


def transposed(x: Tensor) -> Tensor:
    """Heads before rows in memory, as other attentions keep them."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed heads": transposed,
    "slice of channels": lambda x: F.pad(x, (3, 5))[..., 3:-5],
    "slice of heads": lambda x: F.pad(x, (0, 0, 1, 1))[..., 1:-1, :],
    "slice of rows": lambda x: F.pad(x, (0, 0, 0, 0, 2, 1))[:, 2:-1],
    "every other row": lambda x: x.repeat_interleave(2, dim=1)[:, ::2],
    "shifted by one number": lambda x: F.pad(x.flatten(), (1, 0))[1:].view(x.shape),
    "reversed strides": lambda x: x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    "part of a joint projection": lambda x: torch.cat((x, x, x), dim=-1).unflatten(-1, (3, -1))[..., 1, :],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, torch.float16, 20, 5)
    expected = outputs_and_gradients(inputs, backend="triton")
    laid_out = {name: x if name.endswith("mask") else LAYOUTS[layout](x) for name, x in inputs.items()}
    assert all(torch.equal(laid_out[name], inputs[name]) for name in NAMES)
    results = outputs_and_gradients(laid_out, backend="triton")
    for name in expected:
        assert torch.equal(results[name], expected[name]), name


def test_expanded_inputs(kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, torch.float32, 20, 5)
    inputs["words_mask"][1] = inputs["words_mask"][0]
    # One item for both pairs, and the same words in all heads.
    expanded = {name: inputs[name][:1, :, :1].expand(2, -1, 2, -1) for name in ("q_clips", "k_words", "v_words")}
    expanded["words_mask"] = inputs["words_mask"][:1].expand(2, -1)
    repeated = inputs | {name: x.contiguous() for name, x in expanded.items()}
    expected = outputs_and_gradients(in_float64(repeated), backend="reference")
    assert_within(LIMITS[torch.float32], outputs_and_gradients(inputs | expanded, backend="triton"), expected)


def test_gradients_of_an_expanded_leaf_are_summed(kernel_device: torch.device) -> None:
    words = torch.randn(1, 5, 2, 16, device=kernel_device, requires_grad=True)
    inputs = random_inputs(kernel_device, torch.float32, 20, 5)
    gradients = []
    for backend in ("triton", "reference"):
        shared = words.expand(2, -1, -1, -1)
        out, _ = bidirectional_cross_attention(**inputs | {"k_words": shared, "v_words": shared}, backend=backend)
        gradients.append(torch.autograd.grad(out.square().sum(), words)[0])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("upstream", ["expanded", "transposed", "of one direction"])
def test_upstream_gradients(upstream: str, kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, torch.float32, 20, 5)
    gradients = []
    for backend in ("triton", "reference"):
        query = inputs["q_clips"].clone().requires_grad_()
        clips, words = bidirectional_cross_attention(**inputs | {"q_clips": query}, backend=backend)
        if upstream == "expanded":
            loss = clips.sum() + words.sum()
        elif upstream == "transposed":
            loss = (clips.permute(3, 2, 1, 0) * torch.arange(20, device=kernel_device)[:, None]).sum()
        else:
            loss = clips.square().sum()
        gradients.append(torch.autograd.grad(loss, query)[0])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


# --- autocast


@pytest.mark.parametrize("backend", ["triton", "reference"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype: torch.dtype, backend: str, kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, torch.float32, 20, 5)
    leaves = {name: x.requires_grad_() for name, x in inputs.items() if x.is_floating_point()}
    with torch.autocast(kernel_device.type, dtype=dtype):
        outputs = bidirectional_cross_attention(**inputs, backend=backend)
    assert [x.dtype for x in outputs] == [dtype] * 2
    gradients = torch.autograd.grad([x.float().square().sum() for x in outputs], list(leaves.values()))
    assert {x.dtype for x in gradients} == {torch.float32}
    exact = bidirectional_cross_attention(**in_float64(inputs), backend="reference")
    exact_gradients = torch.autograd.grad([x.square().sum() for x in exact], list(leaves.values()))
    for x, y in zip([*outputs, *gradients], [*exact, *exact_gradients], strict=True):
        # The inputs are rounded as well.
        assert error(x, y) <= 4 * LIMITS[dtype]


@pytest.mark.parametrize("backend", ["triton", "reference"])
@pytest.mark.parametrize("form", ["padded", "one direction", "packed"])
def test_autocast_of_mixed_dtypes(form: str, backend: str, kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, torch.float32, 20, 5)
    function: Any = {"padded": bidirectional_cross_attention, "one direction": attend_apart}.get(form)
    if form == "packed":
        function, inputs = packed_bidirectional_cross_attention, pack(inputs, [(20, 3), (1, 5)], [(5, 17)])
    # Queries come from a linear layer, keys and values do not.
    dtypes = {"q": torch.bfloat16, "k": torch.float32, "v": torch.float16}
    mixed = {name: x.to(dtypes[name[0]]) if name[0] in dtypes and name[1] == "_" else x for name, x in inputs.items()}
    rounded = {name: x.bfloat16() if name[0] in dtypes and name[1] == "_" else x for name, x in mixed.items()}
    expected = outputs_and_gradients(rounded, function, backend=backend)
    with torch.autocast(kernel_device.type, dtype=torch.bfloat16):
        results = outputs_and_gradients(mixed, function, backend=backend)
    assert results["out_clips"].dtype == results["out_words"].dtype == torch.bfloat16
    for name, x in results.items():
        if name.startswith("gradient of "):
            assert x.dtype == mixed[name.removeprefix("gradient of ")].dtype
        assert error(x, expected[name].double()) <= LIMITS[torch.bfloat16], name


@pytest.mark.parametrize("backend", ["triton", "reference"])
def test_autocast_leaves_float64(backend: str, interpreter: torch.device) -> None:
    inputs = random_inputs(interpreter, torch.float64, 20, 5)
    expected = bidirectional_cross_attention(**inputs, backend=backend)
    with torch.autocast(interpreter.type, dtype=torch.bfloat16):
        outputs = bidirectional_cross_attention(**inputs, backend=backend)
        with pytest.raises(ValueError, match="k_words must have the dtype of q_clips, torch.float64, got torch.bf"):
            bidirectional_cross_attention(**inputs | {"k_words": inputs["k_words"].float()}, backend=backend)
    assert all(torch.equal(x, y) for x, y in zip(outputs, expected, strict=True))


# --- choice of the backend


@pytest.mark.parametrize("forced", ["triton", "reference", "auto"])
def test_environment_variable(forced: str, kernel_device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = random_inputs(kernel_device, torch.float32, 20, 5)
    outputs = {name: bidirectional_cross_attention(**inputs, backend=name) for name in ("triton", "reference", "auto")}
    assert not torch.equal(outputs["triton"][0], outputs["reference"][0])
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, forced)
    for name in ("triton", "reference", "auto"):
        for x, y in zip(bidirectional_cross_attention(**inputs, backend=name), outputs[forced], strict=True):
            assert torch.equal(x, y), name


def test_unknown_value_of_the_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "cuda")
    with pytest.raises(ValueError, match="the environment variable MESM_KERNEL_BACKEND must be one of .*, got 'cuda'"):
        bidirectional_cross_attention(**random_inputs(CPU, torch.float32, 20, 5))


# --- errors; a change to one input, and the beginning of the message


def ones(*shape: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    return torch.ones(shape, dtype=dtype, device=device)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"q_clips": ones(2, 20, 32)}, r"q_clips must have 4 dimensions, .* got \(2, 20, 32\)"),
    ({"q_words": ones(1, 5, 32)}, r"q_words must have 4 dimensions"),
    ({"k_words": ones(3, 5, 2, 16)}, r"k_words must match q_clips but for the length, got \(3, 5, 2, 16\) and"),
    ({"k_words": ones(2, 5, 1, 16)}, "k_words must match q_clips"),
    ({"k_words": ones(2, 5, 2, 32)}, "k_words must match q_clips"),
    ({"k_words": ones(2, 5, 32)}, "k_words must match q_clips"),
    ({"k_clips": ones(2, 20, 2, 16)}, "k_clips must match q_words"),
    ({"v_words": ones(2, 6, 2, 16)}, r"v_words must have the shape of k_words, got \(2, 6, 2, 16\) and"),
    ({"v_clips": ones(1, 20, 2, 32)}, "v_clips must have the shape of k_clips"),
    (
        {"words_mask": ones(2, 6).bool()},
        r"words_mask must be bool of shape \(2, 5\) .* got torch.bool of shape \(2, 6\)",
    ),
    ({"clips_mask": ones(1, 20)}, r"clips_mask must be bool of shape \(1, 20\) .* got torch.float32"),
    ({"q_clips": ones(2, 20, 2, 16, dtype=torch.int32)}, "q_clips must be float16, .* got torch.int32"),
    (
        {"k_words": ones(2, 5, 2, 16, dtype=torch.float16)},
        "k_words must have the dtype of q_clips, torch.float32, got",
    ),
    ({"v_clips": ones(1, 20, 2, 16, dtype=torch.float64)}, "v_clips must have the dtype of q_clips"),
    ({"v_words": ones(2, 5, 2, 16, device="meta")}, "v_words must be on the device of q_clips, cpu, got meta"),
    ({"clips_mask": ones(1, 20, device="meta").bool()}, "clips_mask must be on the device of q_clips"),
    ({"dropout_p": 1.0}, r"dropout_p must be in \[0, 1\), got 1.0"),
    ({"dropout_p": -0.1}, r"dropout_p must be in \[0, 1\), got -0.1"),
    ({"dropout_p": float("nan")}, r"dropout_p must be in \[0, 1\), got nan"),
    ({"seed": torch.tensor(1.0)}, r"seed must be one int64 number on cpu, got torch.float32 of shape \(\) on cpu"),
    ({"seed": torch.tensor([1, 2])}, "seed must be one int64 number"),
    ({"seed": ones(1, dtype=torch.int64, device="meta")}, "seed must be one int64 number on cpu, got .* on meta"),
    ({"seed": 2**63}, "seed must be an integer that int64 holds, got 9223372036854775808"),
    ({"backend": "eager"}, "backend must be one of"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[f"{i}-{next(iter(c))}" for i, (c, _) in enumerate(WRONG)])
def test_wrong_inputs(change: dict[str, Any], message: str) -> None:
    inputs = random_inputs(CPU, torch.float32, 20, 5) | change
    with pytest.raises(ValueError, match=message):
        bidirectional_cross_attention(**inputs)


def test_other_heads_in_the_second_direction() -> None:
    inputs = random_inputs(CPU, torch.float32, 20, 5)
    other = random_inputs(CPU, torch.float32, 20, 5, heads=3)
    with pytest.raises(
        ValueError, match=r"q_words must have the heads of q_clips, got \(1, 5, 3, 16\) and \(2, 20, 2, 16\)"
    ):
        bidirectional_cross_attention(**inputs | {name: other[name] for name in NARROW})


@pytest.mark.parametrize(
    ("clips", "words", "head_size", "message"),
    [
        (20, 5, 8, r"q_clips must have a head size in \(16, 32, 64\) with backend='triton', got \(2, 20, 2, 8\); use"),
        (20, 5, 128, "q_clips must have a head size in"),
        (
            20,
            65,
            16,
            r"k_words must have at most 64 words with backend='triton', got 65 \(shape \(2, 65, 2, 16\)\); use",
        ),
    ],
)
def test_unsupported_by_the_kernels(clips: int, words: int, head_size: int, message: str) -> None:
    inputs = random_inputs(CPU, torch.float32, clips, words, head_size=head_size)
    with pytest.raises(ValueError, match=message):
        bidirectional_cross_attention(**inputs, backend="triton")
    # The reference takes them.
    bidirectional_cross_attention(**inputs)


def test_too_many_masked_words_for_the_kernels() -> None:
    inputs = random_inputs(CPU, torch.float32, 20, 5)
    longer = random_inputs(CPU, torch.float32, 20, 65)
    with pytest.raises(ValueError, match="q_words must have at most 64 words with backend='triton', got 65"):
        bidirectional_cross_attention(**inputs | {name: longer[name] for name in NARROW}, backend="triton")


def packed_inputs() -> dict[str, Any]:
    return pack(random_inputs(CPU, torch.float32, 20, 5), [(20, 3), (1, 5)], [(5, 17)])


WRONG_PACKED: list[tuple[dict[str, Any], str]] = [
    ({"q_clips": ones(1, 21, 2, 16)}, r"q_clips must have 3 dimensions, .* got \(1, 21, 2, 16\)"),
    ({"k_words": ones(8, 2, 32)}, "k_words must match q_clips but for the rows"),
    ({"k_clips": ones(17, 2)}, "k_clips must match q_words but for the rows"),
    ({"v_words": ones(9, 2, 16)}, "v_words must have the shape of k_words"),
    ({"words_mask": ones(7).bool()}, r"words_mask must be bool of shape \(8,\)"),
    ({"clips_mask": ones(17)}, r"clips_mask must be bool of shape \(17,\)"),
    ({"q_clips": ones(20, 2, 16)}, "clip_problems names 21 rows of q_clips, which has 20"),
    ({"q_words": ones(4, 2, 16)}, "word_problems names 5 rows of q_words, which has 4"),
    ({"clip_problems": ProblemTable([(0, 1, 0, 9)])}, "clip_problems names 9 rows of k_words, which has 8"),
    ({"word_problems": ProblemTable([(0, 1, 8, 10)])}, "word_problems names 18 rows of k_clips, which has 17"),
    ({"dropout_p": 2}, r"dropout_p must be in \[0, 1\), got 2"),
]


@pytest.mark.parametrize(
    ("change", "message"), WRONG_PACKED, ids=[f"{i}-{next(iter(c))}" for i, (c, _) in enumerate(WRONG_PACKED)]
)
def test_wrong_packed_inputs(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        packed_bidirectional_cross_attention(**packed_inputs() | change)


@pytest.mark.parametrize("name", ["clip_problems", "word_problems"])
def test_tables_are_problem_tables(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a ProblemTable, got list"):
        packed_bidirectional_cross_attention(**packed_inputs() | {name: [(0, 20, 0, 3)]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"k_words": ones(65, 2, 16), "v_words": ones(65, 2, 16), "words_mask": ones(65).bool()}
            | {"clip_problems": ProblemTable([(0, 1, 0, 65)])},
            "clip_problems must have at most 64 words with backend='triton', got 65",
        ),
        (
            {"q_words": ones(65, 2, 16), "word_problems": ProblemTable([(0, 65, 0, 1)])},
            "word_problems must have at most 64 words with backend='triton', got 65",
        ),
    ],
)
def test_unsupported_packed_inputs(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        packed_bidirectional_cross_attention(**packed_inputs() | change, backend="triton")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": ones(20, 2, 16)}, "query must have 4 dimensions"),
        ({"key": ones(1, 5, 2, 16)}, "key must match query but for the length"),
        ({"value": ones(2, 4, 2, 16)}, "value must have the shape of key"),
        ({"mask": ones(2, 5)}, "mask must be bool"),
        ({"value": ones(2, 5, 2, 16).half()}, "value must have the dtype of query"),
        ({"dropout_p": 1.5}, "dropout_p must be in"),
        (
            {"query": ones(2, 20, 2, 8), "key": ones(2, 5, 2, 8), "value": ones(2, 5, 2, 8)},
            "query must have a head",
        ),
    ],
)
def test_wrong_inputs_of_one_direction(change: dict[str, Any], message: str) -> None:
    tensors = random_inputs(CPU, torch.float32, 20, 5).values()
    inputs = dict(zip(("query", "key", "value", "mask"), tensors, strict=False))
    with pytest.raises(ValueError, match=message):
        cross_attention(**inputs | change, backend="triton")
