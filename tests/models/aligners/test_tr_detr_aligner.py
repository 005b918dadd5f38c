# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from typing import Any

import torch

from mesm_plugin.models import TRDETRAligner
from mesm_plugin.models.layers import clip_position

SIZES: dict[str, Any] = {"dims": 16, "heads": 2, "ffn_dims": 24, "dropout": 0.0}


def build(**options: Any) -> TRDETRAligner:
    torch.manual_seed(0)
    return TRDETRAligner(**SIZES, **options)


def run(aligner: TRDETRAligner, padding: int = 0) -> tuple[Any, dict[str, torch.Tensor]]:
    """Two videos, the second with two queries, and `padding` clips and words of noise behind all."""
    torch.manual_seed(1)
    clips, words = torch.randn(2, 5, 16), torch.randn(3, 4, 16)
    noise = [torch.randn(len(x), padding, 16) for x in (clips, words)]
    clips_mask = torch.arange(5 + padding) < torch.tensor([[5], [5]])
    words_mask = torch.arange(4 + padding) < torch.tensor([[4], [2], [3]])
    query_video = torch.tensor([0, 1, 1])
    batch = {"pair_video": query_video, "pair_query": torch.arange(3), "query_video": query_video}
    batch["segment_mask"] = torch.zeros(3, 5 + padding, dtype=torch.bool)
    batch["segment_mask"][:, 1:3] = True
    clips, words = (torch.cat(pair, dim=1) for pair in zip((clips, words), noise, strict=True))
    output = aligner(clips, clip_position(clips_mask, 16), clips_mask, words, words_mask, batch)
    return output, batch


def test_each_pair_is_fused_then_attends_to_its_words() -> None:
    aligner = build()
    output, _ = run(aligner)
    clips, mask = output.extra["clips"][[0, 1, 1]], output.extra["clips_mask"][[0, 1, 1]]
    expected = aligner.fusion(clips, mask, output.words, output.words_mask)
    position = clip_position(mask, 16)
    for layer in aligner.layers:
        expected = layer(expected, output.words, output.words, output.words_mask, None, position)
    torch.testing.assert_close(output.clips, expected)
    assert (output.clips[1] - output.clips[2]).abs().max() > 1e-2


def test_losses_are_weighted_and_optional_padding_counts() -> None:
    plain = build().loss(*run(build()))
    assert sorted(plain) == ["loss_clip_sentence", "loss_video_sentence"]
    options = {"clip_sentence_loss": {"loss_weight": 1.0}, "contrastive_loss": {"loss_weight": 0.6}}
    weighted = build(**options).loss(*run(build()))
    for loss in weighted:
        torch.testing.assert_close(weighted[loss], 2 * plain[loss])
    padded = build().loss(*run(build(), padding=2))
    counted = build(count_padding=True).loss(*run(build(), padding=2))
    for loss in plain:
        torch.testing.assert_close(padded[loss], plain[loss])
        assert (counted[loss] - plain[loss]).abs() > 1e-3
