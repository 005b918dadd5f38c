# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Loss of the masked-language model of FW-MESM (Eq. 2)."""

import torch.nn.functional as F
from torch import Tensor, nn

from mesm_plugin.losses.joint_mean import joint_mean
from mesm_plugin.registry import MODELS


@MODELS.register_module()
class MaskedWordLoss(nn.Module):
    """Cross-entropy of the restored words over all valid words, mean per sentence, then over sentences (Eq. 2).

    Args:
        loss_weight: lambda_fw of Eq. 8.
        label_smoothing: 0 in the paper, 0.1 in the released code.
    """

    def __init__(self, loss_weight: float = 0.1, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Compares logits (Q, Lw, classes) to labels (Q, Lw) int64 where mask (Q, Lw) bool is True."""
        loss = F.cross_entropy(
            logits.float().transpose(1, 2), labels, reduction="none", label_smoothing=self.label_smoothing
        ).masked_fill(~mask, 0.0)
        mean = loss.sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return self.loss_weight * joint_mean(mean.sum(), len(mean))
