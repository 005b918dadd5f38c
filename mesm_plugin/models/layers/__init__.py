# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Layers that grounders and aligners share; each stands once."""

from mesm_plugin.models.layers.cross_attention_layer import CrossAttentionLayer
from mesm_plugin.models.layers.decoder import DABDecoder, inverse_sigmoid
from mesm_plugin.models.layers.encoder import GlobalTokenEncoder
from mesm_plugin.models.layers.mlp import MLP, InputProjection
from mesm_plugin.models.layers.positions import LearnedWordPosition, anchor_position, clip_position

__all__ = [
    "MLP",
    "CrossAttentionLayer",
    "DABDecoder",
    "GlobalTokenEncoder",
    "InputProjection",
    "LearnedWordPosition",
    "anchor_position",
    "clip_position",
    "inverse_sigmoid",
]
