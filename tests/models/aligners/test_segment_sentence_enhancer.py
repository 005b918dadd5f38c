# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mesm_plugin.models import SegmentSentenceEnhancer

SIZES: dict[str, Any] = {"dims": 16, "heads": 2, "ffn_dims": 24, "dropout": 0.0, "num_layers": 2}


@pytest.fixture
def batch(make_batch: Callable[..., dict[str, Any]]) -> dict[str, torch.Tensor]:
    return make_batch([9, 5], [3, 2], video_dims=16, text_dims=16)["inputs"]


def run(enhancer: SegmentSentenceEnhancer, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return enhancer(batch["video"], batch["words"], batch["words_mask"], batch)


@pytest.mark.parametrize("context", ["none", "attend"])
def test_influence_of_other_sentences(batch: dict[str, torch.Tensor], context: Any) -> None:
    torch.manual_seed(0)
    enhancer = SegmentSentenceEnhancer(**SIZES, context=context)
    torch.nn.init.normal_(enhancer.mask_token)
    tokens = run(enhancer, batch)

    def changes_of(sentence: int) -> list[bool]:
        changed = {**batch, "words": batch["words"].clone()}
        changed["words"][sentence] += 1.0
        return [not torch.allclose(a, b) for a, b in zip(tokens, run(enhancer, changed), strict=True)]

    if context == "none":
        assert changes_of(0) == [False] * 5
        assert torch.equal(tokens[0], tokens[2])
    else:
        # A sentence influences the tokens of the other queries of its video, but not its own: there it is masked.
        assert changes_of(0) == [False, True, True, False, False]
        assert changes_of(4) == [False, False, False, True, False]


def test_token_is_computed_once_per_source_video(
    batch: dict[str, torch.Tensor], make_batch: Callable[..., dict[str, Any]]
) -> None:
    enhancer = SegmentSentenceEnhancer(**SIZES)
    rows: list[int] = []
    enhancer.layers[0].register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    run(enhancer, batch)
    assert rows == [2]
    sequences = make_batch([9, 5, 7], [1, 1, 1], video_dims=16, text_dims=16, sources=["a", "b", "a"])["inputs"]
    tokens = run(enhancer, sequences)
    assert rows == [2, 2]
    assert torch.equal(tokens[0], tokens[2])


def test_token_sees_all_clips_of_the_source_and_no_padding(make_batch: Callable[..., dict[str, Any]]) -> None:
    torch.manual_seed(0)
    enhancer = SegmentSentenceEnhancer(**SIZES, normalize=True)
    batch = make_batch([9, 5, 7], [1, 1, 1], video_dims=16, text_dims=16, sources=["a", "b", "a"])["inputs"]
    tokens = run(enhancer, batch)
    torch.testing.assert_close(tokens.norm(dim=-1), torch.ones(3))
    joined = torch.cat((batch["video"][0], batch["video"][2, :7]))[None]
    alone = {
        "source": torch.tensor([0]),
        "query_video": torch.tensor([0]),
        "source_clips": torch.arange(16)[None],
        "source_clips_mask": torch.ones(1, 16, dtype=torch.bool),
    }
    expected = enhancer(joined, batch["words"][:1], batch["words_mask"][:1], alone)
    torch.testing.assert_close(tokens[:1], expected)
    batch["video"][1, 5:] = 100.0
    torch.testing.assert_close(run(enhancer, batch), tokens)


def test_unknown_context_is_named() -> None:
    with pytest.raises(ValueError, match="context must be .*, got 'all'"):
        SegmentSentenceEnhancer(**SIZES, context="all")  # type: ignore[arg-type]
