# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The hot operations of MESM; needs torch, and Triton where its kernels run."""

from mesm_plugin.kernels.backend import Backend
from mesm_plugin.kernels.contrastive_loss import iou_positive_contrastive_loss
from mesm_plugin.kernels.cross_attention import (
    ProblemTable,
    SharedCrossAttention,
    bidirectional_cross_attention,
    packed_bidirectional_cross_attention,
)
from mesm_plugin.kernels.cross_attention.masked_attention import masked_attention
from mesm_plugin.kernels.cross_attention.projected_attention import projected_attention
from mesm_plugin.kernels.dropout import Dropout
from mesm_plugin.kernels.feed_forward_network import feed_forward
from mesm_plugin.kernels.linear_layers import Linear, perceptron
from mesm_plugin.kernels.residual_connection import add_norm

__all__ = [
    "Backend",
    "Dropout",
    "Linear",
    "ProblemTable",
    "SharedCrossAttention",
    "add_norm",
    "bidirectional_cross_attention",
    "feed_forward",
    "iou_positive_contrastive_loss",
    "masked_attention",
    "packed_bidirectional_cross_attention",
    "perceptron",
    "projected_attention",
]
