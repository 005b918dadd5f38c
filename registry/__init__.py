# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Registry nodes of the plugin, imported as `mesm_plugin.registry`."""

from mesm_plugin.registry.nodes import (
    DATA_SAMPLERS,
    DATASETS,
    FUNCTIONS,
    HOOKS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPERS,
    RUNNERS,
    TRANSFORMS,
    SharedRegistry,
    UnknownTypeError,
)

__all__ = [
    "DATASETS",
    "DATA_SAMPLERS",
    "FUNCTIONS",
    "HOOKS",
    "LOOPS",
    "METRICS",
    "MODELS",
    "OPTIM_WRAPPERS",
    "RUNNERS",
    "TRANSFORMS",
    "SharedRegistry",
    "UnknownTypeError",
]
