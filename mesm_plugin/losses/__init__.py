# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Losses of video grounding."""

from mesm_plugin.losses.attention_distillation_loss import AttentionDistillationLoss
from mesm_plugin.losses.attention_saliency_loss import AttentionSaliencyLoss
from mesm_plugin.losses.clip_sentence_loss import ClipSentenceLoss, VideoSentenceContrastiveLoss
from mesm_plugin.losses.iou_contrastive_loss import IoUContrastiveLoss
from mesm_plugin.losses.label_loss import FocalLabelLoss, LabelLoss
from mesm_plugin.losses.masked_word_loss import MaskedWordLoss
from mesm_plugin.losses.moment_sentence_loss import MomentSentenceLoss
from mesm_plugin.losses.orthogonality_loss import OrthogonalityLoss
from mesm_plugin.losses.saliency_loss import (
    ClipBCELoss,
    NegativePairLoss,
    RankContrastiveLoss,
    SaliencyHingeLoss,
    SaliencyLoss,
)
from mesm_plugin.losses.span_loss import SpanGIoULoss, SpanL1Loss
from mesm_plugin.losses.video_sentence_loss import VideoSentenceLoss

__all__ = [
    "AttentionDistillationLoss",
    "AttentionSaliencyLoss",
    "ClipBCELoss",
    "ClipSentenceLoss",
    "FocalLabelLoss",
    "IoUContrastiveLoss",
    "LabelLoss",
    "MaskedWordLoss",
    "MomentSentenceLoss",
    "NegativePairLoss",
    "OrthogonalityLoss",
    "RankContrastiveLoss",
    "SaliencyHingeLoss",
    "SaliencyLoss",
    "SpanGIoULoss",
    "SpanL1Loss",
    "VideoSentenceContrastiveLoss",
    "VideoSentenceLoss",
]
