# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Metrics for MMEngine's evaluator."""

from mesm_plugin.evaluation.metrics.highlight_detection_metric import HighlightDetectionMetric
from mesm_plugin.evaluation.metrics.moment_retrieval_metric import MomentRetrievalMetric

__all__ = ["HighlightDetectionMetric", "MomentRetrievalMetric"]
