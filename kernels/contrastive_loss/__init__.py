# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""IoU-positive contrastive loss of SS-MESM."""

from mesm_plugin.kernels.contrastive_loss.loss import iou_positive_contrastive_loss
from mesm_plugin.kernels.contrastive_loss.reference import positive_pairs

__all__ = ["iou_positive_contrastive_loss", "positive_pairs"]
