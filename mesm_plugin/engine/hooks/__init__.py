# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Hooks of MMEngine's runner."""

from mesm_plugin.engine.hooks.checkpoint_guard_hook import CheckpointGuardHook
from mesm_plugin.engine.hooks.prediction_plot_hook import PredictionPlotHook
from mesm_plugin.engine.hooks.resumed_best_hook import ResumedBestHook

__all__ = ["CheckpointGuardHook", "PredictionPlotHook", "ResumedBestHook"]
