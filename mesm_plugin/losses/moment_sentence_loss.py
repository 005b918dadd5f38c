# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Loss that aligns moments with sentences (CG-DETR)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mesm_plugin.registry import MODELS


@MODELS.register_module()
class MomentSentenceLoss(nn.Module):
    """Contrasts the token of each moment with sentences, and with the clips inside and outside of it (CG-DETR).

    Args:
        loss_weight: Weight of the loss.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(
        self,
        moment: Tensor,
        background: Tensor,
        sentence: Tensor,
        dummy_sentence: Tensor,
        clips: Tensor,
        mask: Tensor,
        segment_mask: Tensor,
    ) -> Tensor:
        """Computes the weighted loss.

        Args:
            moment: (Q, D) token of the clips inside the moments.
            background: (Q, D) token of the clips outside.
            sentence: (Q, D) token of the words.
            dummy_sentence: (Q, D) token of the dummies.
            clips: (Q, Lv, D).
            mask: (Q, Lv) bool, True = valid clip.
            segment_mask: (Q, Lv) bool, True = inside the moments.

        Returns:
            A scalar.
        """
        tokens = F.normalize(torch.stack((moment, background)).float(), dim=-1)
        own = torch.arange(len(moment), device=moment.device)
        # As in the authors' code, where every sentence of dummies but its own is a target, the first of them counts.
        first_other = (own == 0).long()
        contrast = [
            F.cross_entropy(torch.cat((tokens @ F.normalize(texts.float(), dim=-1).T).unbind(), dim=1), target)
            for texts, target in ((sentence, own), (dummy_sentence, first_other))
        ]
        logits = torch.einsum("qd,qld->ql", moment, clips).float()
        inside = F.binary_cross_entropy_with_logits(logits, segment_mask.to(logits.dtype), reduction="none")
        return self.loss_weight * (contrast[0] + contrast[1] + inside.masked_fill(~mask, 0.0).mean())
