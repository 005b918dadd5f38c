# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Evaluation of video grounding: scoring functions and, on top of them, MMEngine metrics."""

from mesm_plugin.evaluation.functional import evaluate_moment_retrieval
from mesm_plugin.evaluation.metrics import MomentRetrievalMetric

__all__ = ["MomentRetrievalMetric", "evaluate_moment_retrieval"]
