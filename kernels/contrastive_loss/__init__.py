# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""IoU-positive contrastive loss of SS-MESM."""

from mesm_plugin.kernels.contrastive_loss.loss import iou_positive_contrastive_loss

__all__ = ["iou_positive_contrastive_loss"]
