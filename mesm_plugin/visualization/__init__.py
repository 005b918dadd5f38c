# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Pictures of predictions."""

from mesm_plugin.visualization.comparison import draw_comparison
from mesm_plugin.visualization.timeline import draw_timelines

__all__ = ["draw_comparison", "draw_timelines"]
