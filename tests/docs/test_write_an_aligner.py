# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The aligner of docs/write_an_aligner.md works as the page stands."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine import registry as root

from mesm_plugin.registry import MODELS

PAGE = Path(__file__).parents[2] / "docs" / "write_an_aligner.md"
MakeBatch = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def code() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return code


@pytest.fixture(scope="module")
def example(code: str) -> Iterator[dict[str, Any]]:
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(code, names)
    yield names
    for node in (MODELS, root.MODELS):
        del node.module_dict["GatedAligner"]


def test_example_is_short(code: str) -> None:
    assert len(code.splitlines()) < 40


def test_loss_falls(example: dict[str, Any]) -> None:
    first, second = example["totals"]
    assert second < 0.8 * first
    assert example["model"].aligner.gate.weight.grad.abs().max() > 0


@pytest.mark.parametrize("grounder", ["CGDETR", "DETRGrounder", "EaTR", "MomentDETR", "QDDETR", "TRDETR", "UVCOM"])
def test_every_grounder_takes_it(example: dict[str, Any], grounder: str, make_batch: MakeBatch) -> None:
    sizes = {"video_dims": 10, "text_dims": 8, "dims": 32, "heads": 4, "ffn_dims": 48}
    model = MODELS.build({"type": grounder, **sizes, "aligner": {"type": "GatedAligner"}})
    assert model.aligner.gate.weight.shape == (32, 32)
    torch.stack(list(model(**make_batch([9, 5], [2, 1]), mode="loss").values())).sum().backward()
    assert model.aligner.gate.weight.grad.any()
    model.eval()
    together = model(**make_batch([5, 9], [1, 2], training=False), mode="predict")[0]
    alone = model(**make_batch([5], [1], training=False), mode="predict")[0]
    assert abs(together.pred_moments[0] - alone.pred_moments[0]).max() < 1e-5
