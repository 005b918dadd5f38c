# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Scoring of moment retrieval and highlight detection with plain NumPy."""

from mesm_plugin.evaluation.functional.average_precision import average_precision
from mesm_plugin.evaluation.functional.highlight_detection import LOWEST_GRADES, evaluate_highlight_detection
from mesm_plugin.evaluation.functional.moment_retrieval import (
    AVERAGED_THRESHOLDS,
    LENGTH_RANGES,
    MAX_WINDOWS,
    evaluate_moment_retrieval,
)
from mesm_plugin.evaluation.functional.recall import mean_iou, recall_at, recall_at_one
from mesm_plugin.evaluation.functional.temporal_iou import temporal_hull_iou, temporal_iou

__all__ = [
    "AVERAGED_THRESHOLDS",
    "LENGTH_RANGES",
    "LOWEST_GRADES",
    "MAX_WINDOWS",
    "average_precision",
    "evaluate_highlight_detection",
    "evaluate_moment_retrieval",
    "mean_iou",
    "recall_at",
    "recall_at_one",
    "temporal_hull_iou",
    "temporal_iou",
]
