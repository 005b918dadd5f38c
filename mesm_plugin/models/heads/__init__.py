# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Prediction heads."""

from mesm_plugin.models.heads.moment_head import FOREGROUND, MomentHead
from mesm_plugin.models.heads.saliency_head import GlobalTokenSaliencyHead, MLPSaliencyHead, SummedSaliencyHead
from mesm_plugin.models.heads.similarity_head import SimilarityHead

__all__ = [
    "FOREGROUND",
    "GlobalTokenSaliencyHead",
    "MLPSaliencyHead",
    "MomentHead",
    "SimilarityHead",
    "SummedSaliencyHead",
]
