# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mesm_plugin.kernels import SharedCrossAttention
from mesm_plugin.kernels.cross_attention import operator
from mesm_plugin.registry import MODELS


def build(config: dict[str, Any], backend: str, **options: Any) -> Any:
    torch.manual_seed(0)
    config["heads"] = 2  # a head size of 16
    config["aligner"].update(kernel_backend=backend, **options)
    return MODELS.build(config)


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """(kernel, wide problems, narrow problems) of each launch of the attention."""
    seen: list[tuple[str, int, int]] = []
    launch = operator._launch

    def record(kernel: str, wide: Any, narrow: Any, *arguments: Any) -> None:
        seen.append((kernel.rsplit("_", 1)[1], wide.problems, narrow.problems))
        launch(kernel, wide, narrow, *arguments)

    monkeypatch.setattr(operator, "_launch", record)
    return seen


@pytest.mark.usefixtures("interpreter")
def test_backends_give_the_same_losses_and_gradients(
    grounder_config: dict[str, Any], make_batch: Callable[..., dict[str, Any]]
) -> None:
    batch = make_batch([9, 5], [2, 1])
    results = []
    for backend in ("reference", "triton"):
        model = build(grounder_config, backend)
        losses = model(**batch, mode="loss")
        torch.stack(list(losses.values())).sum().backward()
        results.append((losses, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (losses, gradients), (triton_losses, triton_gradients) = results
    for name, loss in losses.items():
        torch.testing.assert_close(triton_losses[name], loss, rtol=1e-5, atol=1e-6)
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(triton_gradients[name], gradient, rtol=1e-4, atol=1e-6 * largest)


@pytest.mark.usefixtures("interpreter")
def test_both_directions_of_fw_mesm_share_a_launch_in_training(
    grounder_config: dict[str, Any], make_batch: Callable[..., dict[str, Any]], launches: list[tuple[str, int, int]]
) -> None:
    model = build(grounder_config, "triton", segment_sentence=None)
    losses = model(**make_batch([9, 5], [2, 1]), mode="loss")
    # Two layers of FW-MESM over 6 pairs and 3 queries, two layers of the modality aligner.
    assert launches == [("forward", 6, 3)] * 2 + [("forward", 6, 0)] * 2
    launches.clear()
    torch.stack(list(losses.values())).sum().backward()
    assert launches == [("backward", 6, 0)] * 2 + [("backward", 6, 3)] * 2


@pytest.mark.usefixtures("interpreter")
def test_inference_runs_the_clip_direction_only(
    grounder_config: dict[str, Any], make_batch: Callable[..., dict[str, Any]], launches: list[tuple[str, int, int]]
) -> None:
    model = build(grounder_config, "triton", segment_sentence=None).eval()
    with torch.inference_mode():
        model(**make_batch([9, 5], [2, 1], training=False), mode="tensor")
    assert launches == [("forward", 3, 0)] * 4


def test_every_part_gets_the_backend(grounder_config: dict[str, Any]) -> None:
    aligner = build(grounder_config, "reference").aligner
    attentions = [module for module in aligner.modules() if isinstance(module, SharedCrossAttention)]
    assert len(attentions) == 6
    assert all(attention.backend == "reference" for attention in attentions)
    assert aligner.contrastive_loss.kernel_backend == "reference"


def test_unknown_backend_is_named(grounder_config: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"backend must be one of .*'cuda'"):
        build(grounder_config, "cuda")
