# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Every grounder trains and predicts with every aligner."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mesm_plugin.models.grounders import DETRGrounder
from mesm_plugin.registry import MODELS

GROUNDERS = ["CGDETR", "DETRGrounder", "EaTR", "MomentDETR", "QDDETR", "TRDETR", "UVCOM"]
ALIGNERS: dict[str, dict[str, Any]] = {
    "CGDETRAligner": {"num_dummies": 3, "num_prompts": 4},
    "ConcatAligner": {},
    "CrossAttentionAligner": {},
    "MESMAligner": {"frame_word": {"num_word_classes": 21}},
    "TRDETRAligner": {},
    "UVCOMAligner": {"num_iterations": 2},
}
MakeBatch = Callable[..., dict[str, Any]]

each_grounder = pytest.mark.parametrize("grounder", GROUNDERS)
each_cell = pytest.mark.parametrize(("grounder", "aligner"), [(g, a) for g in GROUNDERS for a in ALIGNERS])


def build(grounder: str, aligner: str) -> DETRGrounder:
    torch.manual_seed(0)
    sizes = {"video_dims": 10, "text_dims": 8, "dims": 32, "heads": 4, "ffn_dims": 48}
    sizes |= {"dropout": 0.0, "projection_dropout": 0.0}
    return MODELS.build({"type": grounder, **sizes, "aligner": {"type": aligner, **ALIGNERS[aligner]}})


def total(model: DETRGrounder, batch: dict[str, Any]) -> torch.Tensor:
    return torch.stack(list(model(**batch, mode="loss").values())).sum()


@each_cell
def test_every_parameter_of_the_aligner_learns(grounder: str, aligner: str, make_batch: MakeBatch) -> None:
    model = build(grounder, aligner)
    batch = make_batch([9, 5], [2, 1])
    batch["inputs"]["unknown_words"] = batch["inputs"]["words_mask"] & ~batch["inputs"]["masked_words"]
    total(model, batch).backward()
    for name, parameter in model.aligner.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
    assert model.video_projection[2].weight.grad.any()
    assert model.text_projection[2].weight.grad.any()


@each_cell
def test_loss_falls(grounder: str, aligner: str, make_batch: MakeBatch) -> None:
    model = build(grounder, aligner)
    batch = make_batch([9, 5], [2, 1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    totals = []
    for _ in range(20):
        loss = total(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(loss.item())
    assert totals[-1] < 0.75 * totals[0]


@each_grounder
def test_the_aligner_changes_the_predictions(grounder: str, make_batch: MakeBatch) -> None:
    batch = make_batch([9, 5], [2, 1], training=False)
    predicted = []
    for aligner in ALIGNERS:
        samples = build(grounder, aligner).eval()(**batch, mode="predict")
        predicted.append(samples[0].pred_moments[0])
    for i, moments in enumerate(predicted):
        for other in predicted[:i]:
            assert np.abs(moments - other).max() > 1e-3


@each_cell
def test_predictions_do_not_depend_on_batch_companions(grounder: str, aligner: str, make_batch: MakeBatch) -> None:
    model = build(grounder, aligner).eval()
    together = model(**make_batch([5, 9], [1, 2], training=False), mode="predict")[0]
    alone = model(**make_batch([5], [1], training=False), mode="predict")[0]
    np.testing.assert_allclose(together.pred_moments[0], alone.pred_moments[0], atol=1e-5)
    np.testing.assert_allclose(together.pred_saliency[0], alone.pred_saliency[0], atol=1e-5)


@each_cell
def test_a_batch_of_one_video_and_several_moments(grounder: str, aligner: str, make_batch: MakeBatch) -> None:
    model = build(grounder, aligner)
    assert total(model, make_batch([9], [2])).isfinite()
    assert total(model, make_batch([19, 15], [2, 1], moments_a_query=3)).isfinite()


@each_cell
def test_step_decides_nothing_on_the_device(grounder: str, aligner: str, make_batch: MakeBatch) -> None:
    # On the meta device whatever needs a value (an item, a boolean index, a nonzero) raises.
    model = build(grounder, aligner).to("meta")
    inputs = make_batch([19, 15], [2, 1], moments_a_query=3)["inputs"]
    losses = model.loss({name: tensor.to("meta") for name, tensor in inputs.items()})
    torch.stack(list(losses.values())).sum().backward()
    assert model.video_projection[2].weight.grad is not None
