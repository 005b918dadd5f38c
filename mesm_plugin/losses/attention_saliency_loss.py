# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Loss of the weight that clips give to words (CG-DETR)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mesm_plugin.losses.saliency_loss import RankContrastiveLoss, SaliencyHingeLoss
from mesm_plugin.registry import MODELS


@MODELS.register_module()
class AttentionSaliencyLoss(nn.Module):
    """Makes clips of the moment attend to words and other clips to dummies (CG-DETR).

    The attention to words is a clip score: rank-contrastive, hinge, negative-pair and binary cross-entropy terms are
    added. As in the authors' code, the cross-entropy is a mean over padded clips, too.

    Args:
        loss_weight: Weight of the loss.
        margin: Of the hinge.
    """

    def __init__(self, loss_weight: float = 1.0, margin: float = 0.2) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.rank = RankContrastiveLoss()
        self.hinge = SaliencyHingeLoss(margin=margin)

    def forward(self, to_words: Tensor, to_dummies: Tensor, mask: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Computes the weighted loss.

        Args:
            to_words: (P, Lv) share of each clip's attention that goes to words; the first Q of the P pairs are the
                positive ones, the others, if there are any, the negative ones.
            to_dummies: (P, Lv) the rest.
            mask: (Q, Lv) bool, True = valid clip.
            batch: Targets: `saliency` (Q, Lv), `hinge_positive`, `hinge_negative` (Q, 2).

        Returns:
            A scalar.
        """
        queries = len(mask)
        scores, others = to_words[:queries], to_dummies[:queries]
        negative = to_words[queries:] if len(to_words) > queries else None
        inside = batch["saliency"].to(scores.dtype).clamp(0, 1)
        terms = [
            self.rank(scores, negative, mask, batch),
            self.hinge(scores, negative, mask, batch),
            -(inside * _log(scores) + (1 - inside) * _log(others)).mean(),
        ]
        if negative is not None:
            terms.append(-_log(to_dummies[queries:]).masked_fill(~mask, 0.0).sum(dim=1).mean())
        return self.loss_weight * torch.stack(terms).sum()


def _log(share: Tensor) -> Tensor:
    return share.clamp(min=torch.finfo(share.dtype).tiny).log()
