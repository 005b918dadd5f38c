# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Losses between the features of clips and sentences (TR-DETR)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mesm_plugin.losses.joint_mean import joint_mean
from mesm_plugin.registry import MODELS


@MODELS.register_module()
class ClipSentenceLoss(nn.Module):
    """Binary cross-entropy of a clip being inside the moments, by its cosine with the mean word (TR-DETR).

    Args:
        loss_weight: Weight of the loss.
        tau: Temperature.
    """

    def __init__(self, loss_weight: float = 0.5, tau: float = 0.07) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.tau = tau

    def forward(
        self,
        clips: Tensor,
        clips_mask: Tensor,
        words: Tensor,
        words_mask: Tensor,
        segment_mask: Tensor,
        counted: Tensor,
    ) -> Tensor:
        """Computes the weighted loss.

        Args:
            clips: (Q, Lv, D) clips of each query's video.
            clips_mask: (Q, Lv) bool, True = valid; others have cosine 0.
            words: (Q, Lw, D).
            words_mask: (Q, Lw) bool, True = valid.
            segment_mask: (Q, Lv) bool, True = inside the moments.
            counted: (Q, Lv) bool, True = clip in the mean.

        Returns:
            A scalar.
        """
        words = F.normalize(words, dim=2).masked_fill(~words_mask[..., None], 0.0)
        sentence = words.sum(dim=1) / words_mask.sum(dim=1, keepdim=True)
        cosine = (F.normalize(clips, dim=2) @ sentence[..., None])[..., 0].masked_fill(~clips_mask, 0.0)
        loss = F.binary_cross_entropy_with_logits(cosine / self.tau, segment_mask.to(cosine.dtype), reduction="none")
        return self.loss_weight * joint_mean(loss.masked_fill(~counted, 0.0).sum(), counted.sum())


@MODELS.register_module()
class VideoSentenceContrastiveLoss(nn.Module):
    """Cross-entropy of each sentence among those of the batch, and of each video, by their cosines (TR-DETR).

    Args:
        loss_weight: Weight of the loss.
        tau: Temperature.
    """

    def __init__(self, loss_weight: float = 0.3, tau: float = 0.07) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.tau = tau

    def forward(self, video: Tensor, sentence: Tensor, query_video: Tensor) -> Tensor:
        """Computes the weighted loss.

        Args:
            video: (Q, D) each query's video.
            sentence: (Q, D).
            query_video: (Q,) number of the video; the other sentences of a video do not count as negatives.

        Returns:
            A scalar.
        """
        own = torch.arange(len(video), device=video.device)
        same = (query_video[:, None] == query_video) & (own[:, None] != own)
        logits = F.normalize(sentence, dim=1) @ F.normalize(video, dim=1).T / self.tau
        logits = logits.masked_fill(same, torch.finfo(logits.dtype).min)
        return self.loss_weight * (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
