# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import torch

from mesm_plugin.models.heads import SimilarityHead


def test_cosines() -> None:
    torch.manual_seed(0)
    head = SimilarityHead(4, mlp_dims=6)
    video, clips, sentence = torch.randn(3, 4), torch.randn(3, 5, 4), torch.randn(3, 4)
    video_sentence, clip_sentence = head(video, clips, sentence)

    def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.cosine_similarity(head.video(a), head.sentence(b), dim=0)

    assert video_sentence.shape == (3, 3)
    torch.testing.assert_close(video_sentence[2, 1], cosine(video[2], sentence[1]))
    torch.testing.assert_close(clip_sentence[2, 4], cosine(clips[2, 4], sentence[2]))
