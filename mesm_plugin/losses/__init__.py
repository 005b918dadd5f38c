# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Losses of video grounding."""

from mesm_plugin.losses.iou_contrastive_loss import IoUContrastiveLoss
from mesm_plugin.losses.label_loss import LabelLoss
from mesm_plugin.losses.masked_word_loss import MaskedWordLoss
from mesm_plugin.losses.saliency_loss import (
    ClipBCELoss,
    NegativePairLoss,
    RankContrastiveLoss,
    SaliencyHingeLoss,
    SaliencyLoss,
)
from mesm_plugin.losses.span_loss import SpanGIoULoss, SpanL1Loss

__all__ = [
    "ClipBCELoss",
    "IoUContrastiveLoss",
    "LabelLoss",
    "MaskedWordLoss",
    "NegativePairLoss",
    "RankContrastiveLoss",
    "SaliencyHingeLoss",
    "SaliencyLoss",
    "SpanGIoULoss",
    "SpanL1Loss",
]
