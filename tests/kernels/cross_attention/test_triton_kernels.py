# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mesm_plugin.kernels import (
    ProblemTable,
    bidirectional_cross_attention,
    packed_bidirectional_cross_attention,
)
from mesm_plugin.kernels.cross_attention import cross_attention, operator
from mesm_plugin.kernels.philox import attention_dropout
from mesm_plugin.kernels.tiles import Rule, Tile
from tests.kernels.cross_attention.cases import (
    HALF_AND_SINGLE,
    LIMITS,
    assert_within,
    error,
    in_float64,
    outputs_and_gradients,
    random_inputs,
)
from tests.kernels.interpreter_checks import checked, poisoned
from tests.kernels.python_philox import philox4x32

# (clips, words): each length of clips and of words that matters to some tile, alone and full.
SHAPES = [(1, 1), (1, 17), (16, 5), (37, 1), (37, 32), (64, 17), (65, 33), (230, 5), (64, 64)]
SEED = 7


def check(
    inputs: dict[str, Any],
    dtype: torch.dtype,
    function: Any = bidirectional_cross_attention,
    **options: Any,
) -> dict[str, Tensor]:
    """Holds the kernels to the float64 reference on the same inputs; returns their outputs and gradients."""
    results = outputs_and_gradients(inputs, function, backend="triton", seed=SEED, **options)
    expected = outputs_and_gradients(in_float64(inputs), function, backend="reference", seed=SEED, **options)
    assert {x.dtype for x in results.values()} == {dtype}
    assert_within(LIMITS[dtype], results, expected)
    return results


@pytest.mark.parametrize("dropout_p", [0.0, 0.1])
@pytest.mark.parametrize("dtype", HALF_AND_SINGLE, ids=str)
@pytest.mark.parametrize(("clips", "words"), SHAPES)
def test_errors(clips: int, words: int, dtype: torch.dtype, dropout_p: float, kernel_device: torch.device) -> None:
    heads = 2 if clips < 64 else 1
    results = check(random_inputs(kernel_device, dtype, clips, words, heads=heads), dtype, dropout_p=dropout_p)
    # The last pair has no valid word.
    assert (results["out_clips"][1] == 0).all()
    for name in ("q_clips", "k_words", "v_words"):
        assert (results[f"gradient of {name}"][1] == 0).all(), name


@pytest.mark.parametrize("dtype", HALF_AND_SINGLE, ids=str)
def test_errors_of_a_long_video(dtype: torch.dtype, kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, dtype, 600, 33, pairs=1, heads=1)
    check(inputs, dtype, dropout_p=0.1)


@pytest.mark.parametrize("head_size", [32, 64])
@pytest.mark.parametrize("dtype", HALF_AND_SINGLE, ids=str)
def test_errors_with_larger_heads(dtype: torch.dtype, head_size: int, kernel_device: torch.device) -> None:
    check(random_inputs(kernel_device, dtype, 37, 17, pairs=1, head_size=head_size), dtype, dropout_p=0.1)


def test_errors_of_the_largest_heads_and_words(kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, torch.float32, 37, 64, pairs=1, heads=1, head_size=64)
    check(inputs, torch.float32, dropout_p=0.1)


@pytest.mark.parametrize("dropout_p", [0.0, 0.1])
def test_errors_in_float64(dropout_p: float, interpreter: torch.device) -> None:
    check(random_inputs(interpreter, torch.float64, 65, 33), torch.float64, dropout_p=dropout_p)


def test_errors_with_large_logits(kernel_device: torch.device) -> None:
    # Roundings of logits, whose standard deviation is `factor`, are errors of the weights.
    inputs = random_inputs(kernel_device, torch.float32, 65, 17)
    factor = 30.0
    large = {name: x * factor if name.startswith("q_") else x for name, x in inputs.items()}
    results = outputs_and_gradients(large, backend="triton")
    assert_within(factor * 5e-7, results, outputs_and_gradients(in_float64(large), backend="reference"))
    # With logits of thousands each query attends to one key, and errors of gradients, which vanish, say nothing.
    factor = 1000.0
    large = {name: x * factor if name.startswith("q_") else x for name, x in inputs.items()}
    results = outputs_and_gradients(large, backend="triton")
    expected = outputs_and_gradients(in_float64(large), backend="reference")
    outputs = {name: x for name, x in expected.items() if name.startswith("out")}
    assert_within(factor * 5e-7, results, outputs)
    assert all(x.isfinite().all() for x in results.values())


def packed_inputs(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Ragged problems of both directions, with empty ones, wholly masked ones and rows that belong to none."""
    generator = torch.Generator().manual_seed(0)

    def normal(rows: int) -> Tensor:
        return torch.randn(rows, 2, 16, generator=generator).to(device, dtype)

    # Out of order, with gaps before, between and after.
    clip_problems = ProblemTable(
        [(70, 37, 2, 5), (3, 65, 10, 33), (68, 1, 9, 1), (0, 0, 7, 2), (107, 16, 43, 0)], device
    )
    word_problems = ProblemTable([(5, 17, 1, 37), (22, 0, 40, 9), (23, 2, 49, 0), (25, 5, 50, 70)], device)
    words_mask = torch.rand(45, generator=generator) < 0.8
    clips_mask = torch.rand(125, generator=generator) < 0.8
    words_mask[2:7] = False
    clips_mask[50] = True
    return {
        "q_clips": normal(125),
        "k_words": normal(45),
        "v_words": normal(45),
        "clip_problems": clip_problems,
        "q_words": normal(33),
        "k_clips": normal(125),
        "v_clips": normal(125),
        "word_problems": word_problems,
        "words_mask": words_mask.to(device),
        "clips_mask": clips_mask.to(device),
    }


@pytest.mark.parametrize("dropout_p", [0.0, 0.1])
@pytest.mark.parametrize("dtype", HALF_AND_SINGLE, ids=str)
def test_errors_of_the_packed_form(dtype: torch.dtype, dropout_p: float, kernel_device: torch.device) -> None:
    inputs = packed_inputs(kernel_device, dtype)
    results = check(inputs, dtype, packed_bidirectional_cross_attention, dropout_p=dropout_p)
    # Rows of no problem, of one whose words are all masked, and of one without words.
    assert (results["out_clips"][[0, 1, 2, *range(70, 125)]] == 0).all()
    assert (results["out_words"][[*range(5), 22, 23, 24, 30, 31, 32]] == 0).all()
    assert (results["gradient of k_clips"][[0, *range(38, 50), *range(120, 125)]] == 0).all()


@pytest.mark.parametrize("dtype", HALF_AND_SINGLE, ids=str)
def test_wholly_masked_inputs(dtype: torch.dtype, kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, dtype, 20, 7)
    inputs["words_mask"][:] = False
    inputs["clips_mask"][:] = False
    results = outputs_and_gradients(inputs, dropout_p=0.1, seed=SEED, backend="triton")
    for name, x in results.items():
        assert torch.equal(x, torch.zeros_like(x)), name


@pytest.mark.parametrize(
    "sizes",
    [
        {"clips": 0, "words": 5},
        {"clips": 20, "words": 0},
        {"clips": 0, "words": 0},
        {"clips": 20, "words": 5, "pairs": 0},
        {"clips": 20, "words": 5, "queries": 0},
        {"clips": 20, "words": 5, "pairs": 0, "queries": 0},
    ],
    ids=str,
)
def test_nothing_to_attend(sizes: dict[str, int], kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, torch.float32, **sizes)
    results = check(inputs, torch.float32, dropout_p=0.1)
    if not (sizes["clips"] and sizes["words"]):
        assert all((x == 0).all() for x in results.values())


def test_no_packed_problems(kernel_device: torch.device) -> None:
    inputs = packed_inputs(kernel_device, torch.float32)
    inputs["clip_problems"] = inputs["word_problems"] = ProblemTable([], kernel_device)
    results = check(inputs, torch.float32, packed_bidirectional_cross_attention, dropout_p=0.1)
    assert all((x == 0).all() for x in results.values())


def use_tile(monkeypatch: pytest.MonkeyPatch, rows: int, tiles: int) -> None:
    """Lets all kernels walk by `rows` rows, and programs of the forward pass handle `tiles` tiles of them."""
    monkeypatch.setattr(operator, "CROSS_ATTENTION", (Rule(Tile(rows, 0, 4, 2)),))
    monkeypatch.setattr(operator, "ROWS", tiles * rows)


def test_tiles_agree(kernel_device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = random_inputs(kernel_device, torch.float32, 100, 33, heads=1)
    expected = outputs_and_gradients(in_float64(inputs), dropout_p=0.1, seed=SEED, backend="reference")
    for rows, tiles in ((16, 1), (32, 2), (64, 1), (128, 4)):
        use_tile(monkeypatch, rows, tiles)
        results = outputs_and_gradients(inputs, dropout_p=0.1, seed=SEED, backend="triton")
        assert_within(LIMITS[torch.float32], results, expected)


def test_gradcheck_padded(interpreter: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    use_tile(monkeypatch, 16, 1)
    inputs = random_inputs(interpreter, torch.float64, 18, 3, heads=1)
    names = [name for name, x in inputs.items() if x.is_floating_point()]

    def attend(dropout_p: float, *x: Tensor) -> tuple[Tensor, Tensor]:
        leaves = dict(zip(names, x, strict=True))
        return bidirectional_cross_attention(**{**inputs, **leaves}, dropout_p=dropout_p, seed=SEED, backend="triton")

    leaves = [inputs[name].requires_grad_() for name in names]
    for dropout_p in (0.0, 0.1):
        assert torch.autograd.gradcheck(lambda *x, p=dropout_p: attend(p, *x), leaves, nondet_tol=0.0, fast_mode=True)


def test_gradcheck_packed(interpreter: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    leaves = [
        torch.randn(n, 1, 16, generator=generator, dtype=torch.float64).requires_grad_() for n in (3, 3, 3, 3, 3, 3)
    ]
    table = ProblemTable([(0, 1, 0, 2), (1, 2, 2, 1)])
    mask = torch.tensor([False, True, True])

    def attend(dropout_p: float, *x: Tensor) -> tuple[Tensor, Tensor]:
        return packed_bidirectional_cross_attention(
            *x[:3], table, *x[3:], table, words_mask=mask, dropout_p=dropout_p, seed=SEED, backend="triton"
        )

    for dropout_p in (0.0, 0.1):
        assert torch.autograd.gradcheck(lambda *x, p=dropout_p: attend(p, *x), leaves, nondet_tol=0.0, fast_mode=True)


def kept_weights(
    device: torch.device, queries: int, keys: int, *, problems: int, seed: int, dropout_p: float
) -> Tensor:
    """Which weights (problems, 2 heads, queries, keys) the kernels keep, seen in their outputs.

    The weights are uniform and the values are one-hot, 64 keys at a time.
    """
    kept = []
    mask = torch.ones(problems, keys, dtype=torch.bool, device=device)
    for first in range(0, keys, 64):
        zeros = torch.zeros(problems, keys, 2, 64, device=device)
        value = torch.zeros_like(zeros)
        value[:, range(first, min(first + 64, keys)), :, range(min(64, keys - first))] = 1.0
        out = cross_attention(
            zeros.new_zeros(problems, queries, 2, 64),
            zeros,
            value,
            mask,
            dropout_p=dropout_p,
            seed=seed,
            backend="triton",
        )
        weights = out.transpose(1, 2)[..., : min(64, keys - first)]
        # Kept weights are scaled so that their mean stays.
        torch.testing.assert_close(weights, (weights != 0) / (keys * (1 - dropout_p)))
        kept.append(weights != 0)
    return torch.cat(kept, dim=-1)


# Few keys run as the wide direction, many as the narrow one; both cross a tile.
@pytest.mark.parametrize("seed", [0, -1, 2**40 + 5])
@pytest.mark.parametrize(("queries", "keys"), [(70, 18), (3, 130)])
def test_dropped_weights_are_those_of_philox(queries: int, keys: int, seed: int, kernel_device: torch.device) -> None:
    kept = kept_weights(kernel_device, queries, keys, problems=2, seed=seed, dropout_p=0.4).tolist()
    for problem in range(2):
        for head in range(2):
            for i in (0, 1, queries - 1):
                for j in range(keys):
                    word = philox4x32((j // 4, i, head, problem), seed)[j % 4]
                    assert kept[problem][head][i][j] == (word / 2**32 >= 0.4), (problem, head, i, j)


@pytest.mark.parametrize("dropout_p", [0.1, 0.5])
def test_keep_rate(dropout_p: float, kernel_device: torch.device) -> None:
    kept = kept_weights(kernel_device, 200, 64, problems=2, seed=SEED, dropout_p=dropout_p)
    deviation = math.sqrt(dropout_p * (1 - dropout_p) / kept.numel())
    assert abs(kept.double().mean().item() - (1 - dropout_p)) < 4 * deviation
    expected = attention_dropout(torch.tensor(SEED), dropout_p, 0, 2, 2, 200, 64)
    assert torch.equal(kept.cpu(), expected)


def test_second_direction_is_numbered_after_the_first(kernel_device: torch.device) -> None:
    size, pairs, queries = 16, 3, 2
    mask = torch.ones(pairs, size, dtype=torch.bool, device=kernel_device)
    zeros = torch.zeros(pairs, size, 2, 16, device=kernel_device)
    one_hot = torch.eye(size, device=kernel_device)[:, None].expand(pairs, -1, 2, -1)
    wide = [zeros, zeros, one_hot, mask]
    outputs = bidirectional_cross_attention(
        *wide, *(x[:queries] for x in wide), dropout_p=0.5, seed=SEED, backend="triton"
    )
    kept = torch.cat([x.transpose(1, 2) != 0 for x in outputs])
    assert torch.equal(kept.cpu(), attention_dropout(torch.tensor(SEED), 0.5, 0, pairs + queries, 2, size, size))


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_one_launch_each_way_without_double_stores(packed: bool, interpreter: torch.device) -> None:
    if packed:
        inputs, function = packed_inputs(interpreter, torch.float32), packed_bidirectional_cross_attention
    else:
        inputs, function = random_inputs(interpreter, torch.float32, 65, 33), bidirectional_cross_attention
    with checked() as checks:
        outputs_and_gradients(inputs, function, dropout_p=0.1, seed=SEED, backend="triton")
    assert checks.launches == {operator.FORWARD: 1, operator.BACKWARD: 1}


def nbytes(*tensors: Tensor) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
# 65 and 129 clips are where a next program would start with tiles of 16 rows, and does with every tile.
@pytest.mark.parametrize(("clips", "words"), [(40, 10), (75, 15), (230, 32), (600, 33), (65, 64), (129, 64)])
def test_bytes(clips: int, words: int, dtype: torch.dtype, interpreter: torch.device) -> None:
    inputs = random_inputs(interpreter, dtype, clips, words, pairs=1)
    for mask in ("words_mask", "clips_mask"):
        inputs[mask][:] = True
    with checked() as checks:
        results = outputs_and_gradients(inputs, backend="triton")
    outputs = [results["out_clips"], results["out_words"]]
    gradients = [x for name, x in results.items() if name.startswith("gradient")]
    log_sum = 4 * words * 2
    # Each input is read once, and each output written once.
    least_forward = nbytes(*inputs.values(), *outputs) + log_sum
    # Likewise with the gradients of both outputs; of the outputs, only that of the words is read again.
    least_backward = nbytes(*inputs.values(), *outputs, *gradients, results["out_words"]) + log_sum
    moved = {name: checks.loaded[name].total() + checks.stored[name].total() for name in checks.launches}
    ratios = {"forward": moved[operator.FORWARD] / least_forward, "backward": moved[operator.BACKWARD] / least_backward}
    assert 1.0 <= ratios["forward"] <= 1.35
    # The words' output is kept in float32, which counts where half-precision clips are few.
    assert 1.0 <= ratios["backward"] <= (1.05 if 2 * words <= clips else 1.07)


def test_weights_are_never_stored(kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, torch.float32, 300, 64, pairs=1, queries=1, heads=2)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if kernel_device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        outputs_and_gradients(inputs, dropout_p=0.1, seed=SEED, backend="triton")
    largest = max(max(event.self_cpu_memory_usage, event.self_device_memory_usage) for event in profile.events())
    # Gradients in the shape of their inputs; the weights of a direction have four times as many numbers.
    assert largest == nbytes(inputs["q_clips"]) == 4 * 300 * 64 * 2 / 4


@pytest.mark.parametrize("dtype", HALF_AND_SINGLE, ids=str)
def test_runs_are_equal_bit_by_bit(dtype: torch.dtype, kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, dtype, 65, 17, heads=1)
    first, second = (outputs_and_gradients(inputs, dropout_p=0.1, seed=SEED, backend="triton") for _ in range(2))
    for name in first:
        assert torch.equal(first[name], second[name]), name


def in_nan(inputs: dict[str, Any], valid: dict[str, Tensor]) -> dict[str, Any]:
    """The inputs with NaN in all rows outside `valid`."""
    return {
        name: x.masked_fill(~valid[name][..., None, None], torch.nan) if name in valid else x
        for name, x in inputs.items()
    }


@pytest.mark.parametrize("dtype", HALF_AND_SINGLE, ids=str)
def test_masked_keys_are_not_touched(dtype: torch.dtype, kernel_device: torch.device) -> None:
    inputs = random_inputs(kernel_device, dtype, 70, 17, heads=1)
    masks = dict.fromkeys(("k_words", "v_words"), inputs["words_mask"])
    masks |= dict.fromkeys(("k_clips", "v_clips"), inputs["clips_mask"])
    expected = outputs_and_gradients(inputs, dropout_p=0.1, seed=SEED, backend="triton")
    results = outputs_and_gradients(in_nan(inputs, masks), dropout_p=0.1, seed=SEED, backend="triton")
    for name in expected:
        assert torch.equal(results[name], expected[name]), name
    for name, mask in masks.items():
        assert (results[f"gradient of {name}"][~mask] == 0).all(), name


def test_rows_around_packed_stretches_are_not_touched(kernel_device: torch.device) -> None:
    inputs = packed_inputs(kernel_device, torch.float32)
    valid = {}
    for side, table, mask in (("clips", "clip_problems", "words_mask"), ("words", "word_problems", "clips_mask")):
        query, keys = f"q_{side}", [f"{x}_{'words' if side == 'clips' else 'clips'}" for x in "kv"]
        used = {query: torch.zeros(len(inputs[query]), dtype=torch.bool)}
        used |= {key: torch.zeros(len(inputs[key]), dtype=torch.bool) for key in keys}
        for query_row, queries, key_row, num_keys in inputs[table].problems:
            used[query][query_row : query_row + queries] = True
            for key in keys:
                used[key][key_row : key_row + num_keys] = True
        valid |= {name: x.to(kernel_device) & (inputs[mask] if name in keys else True) for name, x in used.items()}
    options = {"dropout_p": 0.1, "seed": SEED, "backend": "triton"}
    expected = outputs_and_gradients(inputs, packed_bidirectional_cross_attention, **options)
    results = outputs_and_gradients(in_nan(inputs, valid), packed_bidirectional_cross_attention, **options)
    for name in expected:
        assert torch.equal(results[name], expected[name]), name


@pytest.mark.parametrize("layout", ["rows in a larger buffer", "items in a larger buffer"])
def test_surroundings_of_padded_inputs_are_not_touched(layout: str, interpreter: torch.device) -> None:
    inputs = random_inputs(interpreter, torch.float32, 37, 17)
    dim = 1 if layout.startswith("rows") else 0
    surrounded = {name: poisoned(x, dim) for name, x in inputs.items()}
    with checked():
        results = outputs_and_gradients(surrounded, dropout_p=0.1, seed=SEED, backend="triton")
    expected = outputs_and_gradients(inputs, dropout_p=0.1, seed=SEED, backend="triton")
    for name in expected:
        assert torch.equal(results[name], expected[name]), name


def test_bf16_of_the_interpreter_is_found_wrong(interpreter: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = random_inputs(interpreter, torch.bfloat16, 16, 5)
    expected = outputs_and_gradients(in_float64(inputs), backend="reference")
    monkeypatch.setattr(operator, "emulates_bf16", lambda dtype: False)
    results = outputs_and_gradients(inputs, backend="triton")
    errors = {name: error(results[name], expected[name]) for name in expected}
    # Each of them is over the limit, not only the worst.
    assert all(not e <= 10 * LIMITS[torch.bfloat16] for e in errors.values()), errors
