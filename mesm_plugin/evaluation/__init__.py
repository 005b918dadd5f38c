# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Evaluation of video grounding: scoring functions and, on top of them, MMEngine metrics."""

from mesm_plugin.evaluation.functional import evaluate_highlight_detection, evaluate_moment_retrieval
from mesm_plugin.evaluation.metrics import HighlightDetectionMetric, MomentRetrievalMetric

__all__ = [
    "HighlightDetectionMetric",
    "MomentRetrievalMetric",
    "evaluate_highlight_detection",
    "evaluate_moment_retrieval",
]
