# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mesm_plugin.models.grounders import UVCOM
from mesm_plugin.registry import MODELS

SIZES = {"video_dims": 10, "text_dims": 8, "dims": 32, "heads": 4, "ffn_dims": 48, "mlp_dims": 16}
MakeBatch = Callable[..., dict[str, Any]]


def build(**options: Any) -> UVCOM:
    torch.manual_seed(0)
    return MODELS.build({"type": "UVCOM", **SIZES, **options})


def test_similarities_are_computed_in_training_only(make_batch: MakeBatch) -> None:
    model = build()
    output = model.ground(make_batch([9, 5], [2, 1])["inputs"])
    assert output.extra["video_sentence"].shape == (3, 3)
    assert output.extra["clip_sentence"].shape == (3, 9)
    assert output.logits.shape == (2, 3, 30, 2)
    assert not model.ground(make_batch([9, 5], [2, 1], training=False)["inputs"]).extra


def test_without_similarity_loss_there_are_no_parameters_for_it(make_batch: MakeBatch) -> None:
    model = build(similarity_loss=None)
    assert not any(name.startswith("similarity") for name, _ in model.named_parameters())
    assert "loss_similarity" not in model.loss(make_batch([9, 5], [2, 1])["inputs"])


def test_every_parameter_learns(make_batch: MakeBatch) -> None:
    model = build()
    losses = model.loss(make_batch([9, 5], [2, 1])["inputs"])
    assert "loss_similarity" in losses
    torch.stack(list(losses.values())).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("count_padding", [False, True])
def test_the_sentence_counts_padded_words_only_if_told_so(count_padding: bool, make_batch: MakeBatch) -> None:
    model = build(count_padding=count_padding, dropout=0.0, projection_dropout=0.0, aligner={"type": "ConcatAligner"})
    inputs = make_batch([9], [2], training=False)["inputs"]
    assert not inputs["words_mask"].all()
    before = model.ground(inputs).spans
    inputs["words"] = torch.where(inputs["words_mask"][..., None], inputs["words"], torch.randn(8))
    after = model.ground(inputs).spans
    assert ((after - before).abs().max() > 1e-4) == count_padding


@pytest.mark.parametrize("count_padding", [False, True])
def test_the_similarity_loss_counts_padded_clips_only_if_told_so(count_padding: bool, make_batch: MakeBatch) -> None:
    model = build(count_padding=count_padding, dropout=0.0, projection_dropout=0.0, aligner={"type": "ConcatAligner"})
    inputs = make_batch([9, 5], [2, 1])["inputs"]
    before = model.loss(inputs)["loss_similarity"].item()
    inputs["video"] = torch.where(inputs["video_mask"][..., None], inputs["video"], torch.randn(10))
    after = model.loss(inputs)["loss_similarity"].item()
    assert (abs(after - before) > 1e-4) == count_padding
