# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Weight-shared bidirectional cross-attention of FW-MESM."""

from mesm_plugin.kernels.cross_attention.reference import bidirectional_cross_attention, cross_attention
from mesm_plugin.kernels.cross_attention.shared_cross_attention import SharedCrossAttention

__all__ = ["SharedCrossAttention", "bidirectional_cross_attention", "cross_attention"]
