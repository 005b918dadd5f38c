# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mesm_plugin.models import FrameWordEnhancer

SIZES: dict[str, Any] = {"dims": 16, "heads": 2, "ffn_dims": 24, "dropout": 0.0, "num_word_classes": 21}


@pytest.fixture
def batch(make_batch: Callable[..., dict[str, Any]]) -> dict[str, torch.Tensor]:
    return make_batch([9, 5], [2, 1], video_dims=16, text_dims=16)["inputs"]


def run(enhancer: FrameWordEnhancer, batch: dict[str, torch.Tensor], **options: Any) -> tuple[torch.Tensor, Any]:
    position = torch.randn(*batch["video"].shape, generator=torch.Generator().manual_seed(1))
    words = batch["video"], position, batch["video_mask"], batch["words"], batch["words_mask"]
    return enhancer(*words, batch, **options)


def test_eq_1_by_hand(batch: dict[str, torch.Tensor]) -> None:
    torch.manual_seed(0)
    enhancer = FrameWordEnhancer(**SIZES, num_layers=1)
    enhanced, _ = run(enhancer, batch)
    layer = enhancer.layers[0]
    weight, bias = layer.attention.in_proj_weight, layer.attention.in_proj_bias
    for pair, (video, query) in enumerate(zip(batch["pair_video"], batch["pair_query"], strict=True)):
        clips = batch["video"][video]
        words = batch["words"][query][batch["words_mask"][query]]
        q, k, v = (
            x @ weight[i * 16 : i * 16 + 16].T + bias[i * 16 : i * 16 + 16] for i, x in enumerate((clips, words, words))
        )
        heads = []
        for h in (slice(0, 8), slice(8, 16)):
            heads.append((q[:, h] @ k[:, h].T / 8**0.5).softmax(dim=-1) @ v[:, h])
        attended = layer.attention.out_proj(torch.cat(heads, dim=-1))
        valid = batch["video_mask"][video]
        torch.testing.assert_close(enhanced[pair][valid], (clips + layer.update.mlp(attended))[valid])


def test_special_tokens(batch: dict[str, torch.Tensor]) -> None:
    enhancer = FrameWordEnhancer(**SIZES)
    torch.nn.init.constant_(enhancer.mask_token, 3.0)
    torch.nn.init.constant_(enhancer.unknown_token, 5.0)
    unknown = torch.zeros_like(batch["words_mask"])
    unknown[0, :2] = True
    masked = torch.zeros_like(unknown)
    masked[0, 1] = True
    words = enhancer.mask_words(batch["words"], {"masked_words": masked, "unknown_words": unknown}, None)
    assert (words[0, 0] == 5).all()
    assert (words[0, 1] == 3).all()  # a masked unknown word is masked
    assert torch.equal(words[0, 2:], batch["words"][0, 2:])


def test_masked_words_see_the_moment_or_the_whole_video(batch: dict[str, torch.Tensor]) -> None:
    for where, changes in (("moment", False), ("video", True)):
        torch.manual_seed(0)
        enhancer = FrameWordEnhancer(**SIZES, masked_word_clips=where)  # type: ignore[arg-type]
        _, logits = run(enhancer, batch)
        outside = (batch["video_mask"][batch["query_video"]] & ~batch["segment_mask"])[0]
        changed = {**batch, "video": batch["video"].clone()}
        changed["video"][0, outside] += 1.0
        _, other = run(enhancer, changed)
        assert (not torch.allclose(logits[0], other[0])) == changes


def test_separate_ffn_shares_the_slope_only(batch: dict[str, torch.Tensor]) -> None:
    enhancer = FrameWordEnhancer(**SIZES, update="add_norm_ffn", separate_ffn=True)
    clips, words = enhancer.layers[0].update, enhancer.layers[0].words_update
    assert clips.activation is words.activation
    assert clips.linear1 is not words.linear1
    _, logits = run(enhancer, batch)
    logits.sum().backward()
    assert words.linear1.weight.grad.any()
    assert clips.linear1.weight.grad is None or not clips.linear1.weight.grad.any()


def test_shared_weights_learn_from_both_directions(batch: dict[str, torch.Tensor]) -> None:
    enhancer = FrameWordEnhancer(**SIZES, num_layers=1)
    enhanced, logits = run(enhancer, batch)
    weight = enhancer.layers[0].attention.in_proj_weight
    for out in (enhanced, logits):
        assert torch.autograd.grad(out.sum(), weight, retain_graph=True)[0].abs().sum() > 0


def test_without_masked_words_only_clips_are_enhanced(batch: dict[str, torch.Tensor]) -> None:
    enhancer = FrameWordEnhancer(**SIZES)
    expected, _ = run(enhancer, batch)
    enhanced, logits = run(enhancer, {k: v for k, v in batch.items() if k != "masked_words"})
    assert logits is None
    torch.testing.assert_close(enhanced, expected)


def test_feature_tokens_need_the_projection(batch: dict[str, torch.Tensor]) -> None:
    enhancer = FrameWordEnhancer(**SIZES, token_dims=16)
    with pytest.raises(ValueError, match="token_dims needs project_words"):
        run(enhancer, batch)
    projection = torch.nn.Linear(16, 16)
    run(enhancer, batch, project_words=projection)[1].sum().backward()
    assert projection.weight.grad is not None


@pytest.mark.parametrize("option", [{"masked_word_clips": "all"}, {"word_head": "mlp"}, {"update": "add"}])
def test_bad_options_are_named(option: dict[str, str]) -> None:
    name, value = next(iter(option.items()))
    with pytest.raises(ValueError, match=f"{name} must be .*, got '{value}'"):
        FrameWordEnhancer(**SIZES, **option)  # type: ignore[arg-type]
