# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The switch that compiles a model, in a run of a small stand-in for a grounder."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.utils.data import DataLoader

from mesm_plugin.datasets import SyntheticDataset, collate_grounding
from mesm_plugin.engine.hooks import CompileHook
from mesm_plugin.registry import HOOKS


class Model(nn.Module):
    """Sees of a batch what padding must not change."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def score(self, inputs):
        return (inputs["video"] * inputs["video_mask"][..., None]).sum() + inputs["words"].sum()

    def loss(self, inputs):
        return {"loss": self.score(inputs)}

    def score_moments(self, inputs):
        return self.score(inputs), inputs["pair_video"].sum()


class Log:
    def __init__(self):
        self.lines = []

    def info(self, line):
        self.lines.append(line)


def loader(split, videos, batch_size=4):
    dataset = SyntheticDataset(split=split, num_videos=videos)

    def collate(items):
        return collate_grounding(items, training=split == "train")

    return DataLoader(dataset, batch_size=batch_size, collate_fn=collate)


@pytest.fixture
def runner():
    torch._dynamo.reset()
    counters.clear()
    yield SimpleNamespace(
        model=Model(),
        train_dataloader=loader("train", 12),
        val_dataloader=loader("val", 6),
        train_loop=None,
        logger=Log(),
    )
    torch._dynamo.reset()


def test_there_are_as_many_graphs_as_buckets(runner):
    plain = [batch["inputs"] for batch in runner.train_dataloader]
    hook = HOOKS.build({"type": "CompileHook", "clip_buckets": 2, "backend": "eager"})
    hook.before_train(runner)
    for _ in range(2):
        widths = set()
        for before, batch in zip(plain, runner.train_dataloader, strict=True):
            widths.add(batch["inputs"]["video"].shape[1])
            torch.testing.assert_close(
                runner.model.loss(batch["inputs"])["loss"], Model().score(before), rtol=1e-4, atol=1
            )
        assert counters["stats"]["unique_graphs"] == len(widths) <= 2
    hook.before_val(runner)
    hook.before_val(runner)
    for batch in runner.val_dataloader:
        assert len(runner.model.score_moments(batch["inputs"])) == 2
    # The buckets of the training data serve the validation data, too.
    lengths = runner.train_dataloader.collate_fn.buckets.clips
    assert set(lengths) <= set(runner.val_dataloader.collate_fn.buckets.clips)
    assert [line.split()[0] for line in runner.logger.lines] == ["loss", "score_moments"]


def test_inference_can_stay_as_it_is(runner):
    collate = runner.val_dataloader.collate_fn
    CompileHook(inference=False, backend="eager").before_val(runner)
    assert runner.val_dataloader.collate_fn is collate
    assert "score_moments" not in vars(runner.model)


def test_what_cannot_be_compiled_is_refused(runner, monkeypatch):
    with pytest.raises(ValueError, match="word_buckets of CompileHook is 0, expected at least 1"):
        CompileHook(word_buckets=0)
    runner.model = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="needs a grounder with the method 'loss', got Linear"):
        CompileHook().before_train(runner)
    monkeypatch.setattr("mesm_plugin.engine.hooks.compile_hook.get_world_size", lambda: 2)
    with pytest.raises(ValueError, match="CompileHook takes one process, got 2"):
        CompileHook().before_train(runner)
