# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Parameters and operations of a model that can be counted by hand."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel

from mesm_plugin.datasets import SyntheticDataset
from mesm_plugin.matrix.cost import model_cost
from mesm_plugin.registry import MODELS


class OneProduct(BaseModel):
    """Clips times a matrix, with an aligner of as many parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.aligner = torch.nn.Linear(10, 4)

    def forward(self, inputs: Mapping[str, torch.Tensor], data_samples: Any = None, mode: str = "tensor") -> Any:
        product = self.aligner(inputs["video"])
        return {"loss": product.sum()} if mode == "loss" else product


@pytest.fixture
def one_product() -> Iterator[None]:
    MODELS.register_module(module=OneProduct)
    yield
    for registry in (MODELS, MODELS.parent):
        registry._module_dict.pop("OneProduct")


def dataset(split: str, videos: int) -> dict[str, Any]:
    return {"type": "SyntheticDataset", "split": split, "num_videos": videos, "feature_dim": 8, "word_dim": 8}


@pytest.mark.parametrize("videos", [3, 40])
def test_operations_of_a_query(one_product: None, videos: int) -> None:
    def loader(split: str, training: bool) -> dict[str, Any]:
        collate = {"type": "collate_grounding", "training": training}
        return {"batch_size": 5, "dataset": dataset(split, videos), "collate_fn": collate, "num_workers": 2}

    model = {"type": "OneProduct"}
    config = Config(
        {"model": model, "train_dataloader": loader("train", True), "test_dataloader": loader("test", False)}
    )
    cost = model_cost(config)

    def items(split: str, limit: int) -> list[dict[str, Any]]:
        options = dataset(split, min(videos, limit))
        del options["type"]
        return list(SyntheticDataset(**options))

    tested, trained = items("test", 32), items("train", 8)
    queries = sum(len(item["queries"]) for item in tested)
    clips = sum(len(item["video"]) for item in tested)
    assert cost["inference_queries"] == queries
    # Without padding: 10 multiplications and additions for each of 4 channels of a clip.
    assert cost["inference_flops"] == pytest.approx(clips * 2 * 10 * 4 / queries)
    padded = len(trained) * max(len(item["video"]) for item in trained)
    assert cost["training_queries"] == sum(len(item["queries"]) for item in trained)
    # Forward, and the gradient of the weights; the clips have none.
    assert cost["training_flops"] == pytest.approx(2 * padded * 2 * 10 * 4 / cost["training_queries"])
    assert (cost["parameters"], cost["aligner_parameters"]) == (44, 44)
