# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Aligners: what stands between the features and the encoder of a grounder."""

from mesm_plugin.models.aligners.base_aligner import AlignerOutput, BaseAligner
from mesm_plugin.models.aligners.cg_detr_aligner import CGDETRAligner
from mesm_plugin.models.aligners.concat_aligner import ConcatAligner
from mesm_plugin.models.aligners.cross_attention_aligner import CrossAttentionAligner
from mesm_plugin.models.aligners.frame_word_enhancer import FrameWordEnhancer
from mesm_plugin.models.aligners.mesm_aligner import MESMAligner
from mesm_plugin.models.aligners.segment_sentence_enhancer import SegmentSentenceEnhancer
from mesm_plugin.models.aligners.tr_detr_aligner import TRDETRAligner
from mesm_plugin.models.aligners.uvcom_aligner import UVCOMAligner

__all__ = [
    "AlignerOutput",
    "BaseAligner",
    "CGDETRAligner",
    "ConcatAligner",
    "CrossAttentionAligner",
    "FrameWordEnhancer",
    "MESMAligner",
    "SegmentSentenceEnhancer",
    "TRDETRAligner",
    "UVCOMAligner",
]
