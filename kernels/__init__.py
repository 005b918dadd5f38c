# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The two hot operations of MESM, imported as `mesm_plugin.kernels`; needs torch only."""

from mesm_plugin.kernels.contrastive_loss import iou_positive_contrastive_loss
from mesm_plugin.kernels.cross_attention import SharedCrossAttention, bidirectional_cross_attention, cross_attention

__all__ = [
    "SharedCrossAttention",
    "bidirectional_cross_attention",
    "cross_attention",
    "iou_positive_contrastive_loss",
]
