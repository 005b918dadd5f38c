# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Grounders compiled as one graph a bucket."""

import shutil

import pytest
import torch
from torch._dynamo.utils import counters

from mesm_plugin.datasets.length_buckets import LengthBuckets
from mesm_plugin.engine.single_graph import SingleGraph
from mesm_plugin.registry import MODELS

ONE_BUCKET = LengthBuckets((9,), (8,), 1)
TWO_BUCKETS = LengthBuckets((6, 9), (8,), 1)
# Of other numbers of videos, queries, clips and words; the first two of one bucket, the last two of the other.
BATCHES = [([5, 4], [1, 2]), ([6, 3, 5], [3, 1, 1]), ([9, 5, 7, 6], [1, 1, 1, 2]), ([7, 8], [4, 5])]


@pytest.fixture(autouse=True)
def _without_graphs():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def loss_and_gradients(model, loss, inputs):
    model.zero_grad()
    losses = loss(inputs)
    torch.stack(list(losses.values())).sum().backward()
    return dict(losses), {name: x.grad.clone() for name, x in model.named_parameters() if x.grad is not None}


def test_training_compiles_once_and_equals_eager(mesm_config, make_batch):
    torch.manual_seed(0)
    model = MODELS.build(mesm_config)
    graph = SingleGraph(model.loss, "loss", 1, "eager")
    for epoch in range(2):
        for clips, queries in BATCHES:
            inputs = make_batch(clips, queries, seed=epoch)["inputs"]
            expected = loss_and_gradients(model, model.loss, inputs)
            compiled = loss_and_gradients(model, graph, ONE_BUCKET.pad(inputs))
            torch.testing.assert_close(compiled, expected, rtol=1e-4, atol=1e-5)
        assert counters["stats"]["unique_graphs"] == 1


def test_inference_compiles_once_a_bucket_and_equals_eager(make_batch):
    torch.manual_seed(0)
    sizes = {"video_dims": 10, "text_dims": 8, "dims": 32, "heads": 4, "ffn_dims": 48}
    parts = {part: {"num_layers": 1} for part in ("aligner", "encoder", "decoder")}
    model = MODELS.build({"type": "QDDETR", **sizes, **parts}).eval()
    graph = SingleGraph(model.score_moments, "score_moments", 2, "eager")
    with torch.no_grad():
        for clips, queries in BATCHES:
            inputs = make_batch(clips, queries, training=False)["inputs"]
            moments, saliency = graph(TWO_BUCKETS.pad(inputs))
            expected_moments, expected_saliency = model.score_moments(inputs)
            torch.testing.assert_close(moments, expected_moments, rtol=1e-4, atol=1e-5)
            # What is at padded clips means nothing.
            valid = inputs["video_mask"][inputs["query_video"]]
            saliency = saliency[:, : max(clips)][valid]
            torch.testing.assert_close(saliency, expected_saliency[valid], rtol=1e-4, atol=1e-5)
        assert counters["stats"]["unique_graphs"] == 2
        third = LengthBuckets((10,), (8,), 1).pad(inputs)
        with pytest.raises(RuntimeError, match=r"score_moments cannot be compiled .*'video': \(2, 10, 10\)"):
            graph(third)


def test_what_is_no_single_graph_is_named():
    def function(inputs):
        return inputs["video"].sum() if inputs["video"].sum().item() > 0 else None

    inputs = {name: torch.ones(3, 4) for name in ("video", "words", "pair_video")}
    graph = SingleGraph(function, "Some.loss", 2, "eager")
    with pytest.raises(RuntimeError, match=r"Some.loss cannot be compiled as one graph .* leave CompileHook out"):
        graph(inputs)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
# What was compiled in another way before is not to be found.
@torch.compiler.config.patch(force_disable_caches=True)
def test_machine_code_equals_eager():
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 4)

    def function(inputs):
        return {"loss": layer(inputs["video"]).relu().square().mean()}

    graph = SingleGraph(function, "loss", 1, "inductor")
    # Sums of fewer and of more than 4096 numbers.
    for rows in (2, 5, 3000):
        inputs = {"video": torch.randn(rows, 4)}
        expected, compiled = (loss_and_gradients(layer, loss, inputs) for loss in (function, graph))
        torch.testing.assert_close(compiled, expected)
    assert counters["stats"]["unique_graphs"] == 1


def test_more_moments_than_subsets_are_made_for_are_matched_within_the_graph(mesm_config, make_batch):
    torch.manual_seed(0)
    model = MODELS.build(mesm_config)
    inputs = LengthBuckets((9,), (8,), 9).pad(make_batch([5, 4], [1, 2])["inputs"])
    compiled = loss_and_gradients(model, SingleGraph(model.loss, "loss", 1, "eager"), inputs)
    torch.testing.assert_close(compiled, loss_and_gradients(model, model.loss, inputs), rtol=1e-4, atol=1e-5)
