# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Losses of the clip scores (Eq. 6 and what the released code has in its place)."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mesm_plugin.losses.joint_mean import joint_mean
from mesm_plugin.registry import MODELS


class SaliencyLoss(nn.Module):
    """Base of the losses of clip scores.

    Args:
        loss_weight: Weight of the loss (lambda_enc of Eq. 8).
    """

    uses_negative_pairs: bool = False
    """Whether the loss reads the scores of negative pairs."""

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(
        self, scores: Tensor, negative_scores: Tensor | None, mask: Tensor, batch: Mapping[str, Tensor]
    ) -> Tensor:
        """Computes the weighted loss.

        Args:
            scores: (Q, Lv) logits of the positive pairs.
            negative_scores: (Q, Lv) logits of the same videos paired with a negative query; None without such pairs.
            mask: (Q, Lv) bool, True = valid clip.
            batch: Targets: `segment_mask` (Q, Lv) bool, `saliency` (Q, Lv), `hinge_positive`, `hinge_negative` (Q, 2).

        Returns:
            A scalar.
        """
        raise NotImplementedError


@MODELS.register_module()
class ClipBCELoss(SaliencyLoss):
    """Binary cross-entropy of each clip being inside the moment, mean per video (Eq. 6)."""

    def forward(
        self, scores: Tensor, negative_scores: Tensor | None, mask: Tensor, batch: Mapping[str, Tensor]
    ) -> Tensor:
        """See `SaliencyLoss.forward`; reads `segment_mask`."""
        target = batch["segment_mask"].to(scores.dtype)
        loss = F.binary_cross_entropy_with_logits(scores, target, reduction="none").masked_fill(~mask, 0.0)
        mean = loss.sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return self.loss_weight * joint_mean(mean.sum(), len(mean))


@MODELS.register_module()
class RankContrastiveLoss(SaliencyLoss):
    """Contrasts clips at or above each saliency level with all clips of the video (QD-DETR).

    Args:
        loss_weight: Weight of the loss.
        tau: Temperature.
        num_levels: Levels 1 to `num_levels` of the graded saliency.
        divisor: What the sum over the levels is divided by.
        negative_pairs: Whether the clips of the negative pair count among the others (not in TR-DETR).
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        tau: float = 0.5,
        num_levels: int = 11,
        divisor: float = 12.0,
        negative_pairs: bool = True,
    ) -> None:
        super().__init__(loss_weight)
        self.uses_negative_pairs = negative_pairs
        self.tau = tau
        self.num_levels = num_levels
        self.divisor = divisor

    def forward(
        self, scores: Tensor, negative_scores: Tensor | None, mask: Tensor, batch: Mapping[str, Tensor]
    ) -> Tensor:
        """See `SaliencyLoss.forward`; reads `saliency`."""
        labels = batch["saliency"].to(scores.dtype).masked_fill(~mask, 0.0)
        if negative_scores is not None and self.uses_negative_pairs:
            scores = torch.cat((scores, negative_scores), dim=1)
            mask = torch.cat((mask, mask), dim=1)
        logits = scores.masked_fill(~mask, -1e3) / self.tau
        logits = logits - logits.detach().amax(dim=1, keepdim=True)
        log_all = (logits.exp().sum(dim=1, keepdim=True) + 1e-6).log()
        # Negative pairs have label 0, so only the first half of each row can be positive.
        log_probability = (logits - log_all)[:, : labels.shape[1]]
        levels = torch.arange(1, self.num_levels + 1, dtype=labels.dtype, device=labels.device)
        positive = labels >= levels[:, None, None]
        # Each level is a mean over its clips.
        share = (positive / (positive.sum(dim=2, keepdim=True) + 1e-6)).sum(dim=0)
        return joint_mean((share * log_probability).sum(), len(labels)) * (-self.loss_weight / self.divisor)


@MODELS.register_module()
class NegativePairLoss(SaliencyLoss):
    """-log(1 - sigmoid(score)) of the clips of negative pairs, summed per video (QD-DETR); 0 without such pairs."""

    uses_negative_pairs = True

    def forward(
        self, scores: Tensor, negative_scores: Tensor | None, mask: Tensor, batch: Mapping[str, Tensor]
    ) -> Tensor:
        """See `SaliencyLoss.forward`; reads no target."""
        if negative_scores is None:
            return joint_mean(scores.sum() * 0.0, 0)
        loss = F.softplus(negative_scores).masked_fill(~mask, 0.0)
        return self.loss_weight * joint_mean(loss.sum(), len(loss))


@MODELS.register_module()
class SaliencyHingeLoss(SaliencyLoss):
    """Hinge between drawn clips inside and outside the moment (Moment-DETR; `use_triplet` of the released code).

    Args:
        loss_weight: Weight of the loss.
        margin: By how much a clip inside is to score above one outside.
    """

    def __init__(self, loss_weight: float = 1.0, margin: float = 0.2) -> None:
        super().__init__(loss_weight)
        self.margin = margin

    def forward(
        self, scores: Tensor, negative_scores: Tensor | None, mask: Tensor, batch: Mapping[str, Tensor]
    ) -> Tensor:
        """See `SaliencyLoss.forward`; reads `hinge_positive` and `hinge_negative`."""
        inside = scores.gather(1, batch["hinge_positive"])
        outside = scores.gather(1, batch["hinge_negative"])
        # Moment-DETR scales the mean over the drawn pairs by 2.
        loss = (self.margin + outside - inside).clamp(min=0)
        return self.loss_weight * 2 * joint_mean(loss.sum(), loss.numel())
