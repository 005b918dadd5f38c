# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Models of video grounding.

The grounders are not imported here: their base class is slow to import, and the registry finds them by name.
"""

from mesm_plugin.models.aligners import (
    AlignerOutput,
    BaseAligner,
    CGDETRAligner,
    ConcatAligner,
    CrossAttentionAligner,
    FrameWordEnhancer,
    MESMAligner,
    SegmentSentenceEnhancer,
    TRDETRAligner,
    UVCOMAligner,
)
from mesm_plugin.models.heads import GlobalTokenSaliencyHead, MLPSaliencyHead, MomentHead, SummedSaliencyHead
from mesm_plugin.models.layers import DABDecoder, DETRDecoder, DETREncoder, EventDecoder, GlobalTokenEncoder
from mesm_plugin.models.matcher import MomentMatcher

__all__ = [
    "AlignerOutput",
    "BaseAligner",
    "CGDETRAligner",
    "ConcatAligner",
    "CrossAttentionAligner",
    "DABDecoder",
    "DETRDecoder",
    "DETREncoder",
    "EventDecoder",
    "FrameWordEnhancer",
    "GlobalTokenEncoder",
    "GlobalTokenSaliencyHead",
    "MESMAligner",
    "MLPSaliencyHead",
    "MomentHead",
    "MomentMatcher",
    "SegmentSentenceEnhancer",
    "SummedSaliencyHead",
    "TRDETRAligner",
    "UVCOMAligner",
]
