# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Loss that teaches attention weights by the similarity of encoded clips and words (CG-DETR)."""

import torch.nn.functional as F
from torch import Tensor, nn

from mesm_plugin.losses.joint_mean import joint_mean
from mesm_plugin.registry import MODELS


@MODELS.register_module()
class AttentionDistillationLoss(nn.Module):
    """Divergence of a clip's attention weights from its similarities, mean over the clips of moments (CG-DETR).

    As in the authors' code, padded words take part in the softmax of the similarities and in the mean.

    Args:
        loss_weight: Weight of the loss.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, weights: Tensor, similarity: Tensor, segment_mask: Tensor) -> Tensor:
        """Computes the weighted loss.

        Args:
            weights: (Q, Lv, Lk) attention of each clip to dummies and words; they learn.
            similarity: (Q, Lv, Lk) of each clip to them; it teaches.
            segment_mask: (Q, Lv) bool, True = inside the moments.

        Returns:
            A scalar.
        """
        target = similarity.detach().float().softmax(dim=-1)
        divergence = F.kl_div((weights.float() + 1e-6).log(), target, reduction="none").mean(dim=-1)
        return self.loss_weight * joint_mean(divergence.masked_fill(~segment_mask, 0.0).sum(), segment_mask.sum())
