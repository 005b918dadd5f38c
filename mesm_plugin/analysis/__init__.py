# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Analyses of trained models."""

from mesm_plugin.analysis.alignment_study import PAIRS, AlignmentStudy, Pair
from mesm_plugin.analysis.query_features import FeatureError, QueryFeatures, query_features
from mesm_plugin.analysis.subspace_similarity import chance_similarity, principal_directions, subspace_similarity

__all__ = [
    "PAIRS",
    "AlignmentStudy",
    "FeatureError",
    "Pair",
    "QueryFeatures",
    "chance_similarity",
    "principal_directions",
    "query_features",
    "subspace_similarity",
]
