# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Hooks of MMEngine's runner."""

from mesm_plugin.engine.hooks.atomic_checkpoint_hook import AtomicCheckpointHook
from mesm_plugin.engine.hooks.checkpoint_guard_hook import CheckpointGuardHook
from mesm_plugin.engine.hooks.compile_hook import CompileHook
from mesm_plugin.engine.hooks.cuda_graph_hook import CudaGraphHook
from mesm_plugin.engine.hooks.deferred_runtime_info_hook import DeferredRuntimeInfoHook
from mesm_plugin.engine.hooks.interruption_hook import InterruptionHook
from mesm_plugin.engine.hooks.non_finite_hook import NonFiniteError, NonFiniteHook
from mesm_plugin.engine.hooks.prediction_plot_hook import PredictionPlotHook
from mesm_plugin.engine.hooks.random_state_hook import RandomStateHook
from mesm_plugin.engine.hooks.resumed_best_hook import ResumedBestHook
from mesm_plugin.engine.hooks.run_record_hook import RunRecordHook

__all__ = [
    "AtomicCheckpointHook",
    "CheckpointGuardHook",
    "CompileHook",
    "CudaGraphHook",
    "DeferredRuntimeInfoHook",
    "InterruptionHook",
    "NonFiniteError",
    "NonFiniteHook",
    "PredictionPlotHook",
    "RandomStateHook",
    "ResumedBestHook",
    "RunRecordHook",
]
