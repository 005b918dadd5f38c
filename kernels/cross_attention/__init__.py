# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Weight-shared bidirectional cross-attention of FW-MESM."""

from mesm_plugin.kernels.cross_attention.attention import (
    bidirectional_cross_attention,
    cross_attention,
    packed_bidirectional_cross_attention,
)
from mesm_plugin.kernels.cross_attention.problem_table import ProblemTable
from mesm_plugin.kernels.cross_attention.shared_cross_attention import SharedCrossAttention

__all__ = [
    "ProblemTable",
    "SharedCrossAttention",
    "bidirectional_cross_attention",
    "cross_attention",
    "packed_bidirectional_cross_attention",
]
