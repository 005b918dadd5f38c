# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Random inputs of the bidirectional attention, its results with gradients, and their errors against float64."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mesm_plugin.kernels import bidirectional_cross_attention

# Largest error of an output or gradient that a float64 reference on the same rounded inputs allows the kernels.
LIMITS = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float64: 1e-14}
HALF_AND_SINGLE = (torch.float32, torch.float16, torch.bfloat16)


def random_inputs(
    device: torch.device,
    dtype: torch.dtype,
    clips: int,
    words: int,
    *,
    pairs: int = 2,
    queries: int = 1,
    heads: int = 2,
    head_size: int = 16,
) -> dict[str, Tensor]:
    """Inputs of `bidirectional_cross_attention`; a fifth of the keys is masked, and of several items the last."""
    generator = torch.Generator().manual_seed(clips * 1000 + words)

    def normal(items: int, length: int) -> Tensor:
        return torch.randn(items, length, heads, head_size, generator=generator).to(device, dtype)

    def mask(items: int, length: int) -> Tensor:
        valid = torch.rand(items, length, generator=generator) < 0.8
        valid[:, :1] = True
        valid[1:][-1:] = False
        return valid.to(device)

    return {
        "q_clips": normal(pairs, clips),
        "k_words": normal(pairs, words),
        "v_words": normal(pairs, words),
        "words_mask": mask(pairs, words),
        "q_words": normal(queries, words),
        "k_clips": normal(queries, clips),
        "v_clips": normal(queries, clips),
        "clips_mask": mask(queries, clips),
    }


def outputs_and_gradients(
    inputs: dict[str, Any], function: Callable[..., Sequence[Tensor]] = bidirectional_cross_attention, **options: Any
) -> dict[str, Tensor]:
    """Outputs of both directions, and the gradients of all floating-point inputs for random gradients of the outputs.

    Args:
        inputs: Keyword arguments of `function`; tensors among them are detached first.
        function: Returns the outputs of the clips and of the words.
        **options: Further keyword arguments.
    """
    leaves = {
        name: x.detach().requires_grad_()
        for name, x in inputs.items()
        if isinstance(x, Tensor) and x.is_floating_point()
    }
    outputs = function(**{**inputs, **leaves}, **options)
    generator = torch.Generator().manual_seed(1)
    # Rounded to bfloat16, the coarsest dtype, so that they are the same numbers in every dtype.
    upstream = [torch.randn(x.shape, generator=generator).bfloat16().to(x.device, x.dtype) for x in outputs]
    gradients = torch.autograd.grad(outputs, list(leaves.values()), upstream)
    results = dict(zip(("out_clips", "out_words"), outputs, strict=True))
    results |= {f"gradient of {name}": x for name, x in zip(leaves, gradients, strict=True)}
    return {name: x.detach() for name, x in results.items()}


def in_float64(inputs: dict[str, Any]) -> dict[str, Any]:
    """The same numbers in float64."""
    return {name: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for name, x in inputs.items()}


def error(x: Tensor, expected: Tensor) -> float:
    """max|x - expected| / max|expected|; absolute where what is expected is zero but for roundings of float64."""
    if not x.numel():
        return 0.0
    scale = expected.abs().max().item()
    return ((x.double() - expected).abs().max() / (scale if scale > 1e-9 else 1.0)).item()


def assert_within(limit: float, results: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raises an AssertionError with the names of the results whose error, or lack of finiteness, is over the limit."""
    errors = {name: error(results[name], expected[name]) for name in expected}
    wrong = {name: f"{e:.1e}" for name, e in errors.items() if not e <= limit}
    if wrong:
        raise AssertionError(f"errors over {limit}: {wrong}")
