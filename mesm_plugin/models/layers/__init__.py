# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Layers that grounders and aligners share; each stands once."""

from mesm_plugin.models.layers.adaptive_attention_layer import AdaptiveAttentionLayer
from mesm_plugin.models.layers.clip_pooling import ClipPooling
from mesm_plugin.models.layers.cross_attention_layer import CrossAttentionLayer, cross_attention_stack
from mesm_plugin.models.layers.dab_decoder import DABDecoder, inverse_sigmoid
from mesm_plugin.models.layers.detr_decoder import DETRDecoder
from mesm_plugin.models.layers.encoder import DETREncoder, GlobalTokenEncoder
from mesm_plugin.models.layers.event_decoder import EventDecoder
from mesm_plugin.models.layers.initialisation import init_xavier_uniform, init_zeros
from mesm_plugin.models.layers.input_projection import InputProjection
from mesm_plugin.models.layers.masked_mean import masked_mean
from mesm_plugin.models.layers.mlp import MLP
from mesm_plugin.models.layers.positions import LearnedWordPosition, anchor_position, clip_position
from mesm_plugin.models.layers.prototypes import Prototypes
from mesm_plugin.models.layers.random_walk import random_walk
from mesm_plugin.models.layers.slot_attention import SlotAttention
from mesm_plugin.models.layers.trilinear_fusion import TrilinearFusion

__all__ = [
    "MLP",
    "AdaptiveAttentionLayer",
    "ClipPooling",
    "CrossAttentionLayer",
    "DABDecoder",
    "DETRDecoder",
    "DETREncoder",
    "EventDecoder",
    "GlobalTokenEncoder",
    "InputProjection",
    "LearnedWordPosition",
    "Prototypes",
    "SlotAttention",
    "TrilinearFusion",
    "anchor_position",
    "clip_position",
    "cross_attention_stack",
    "init_xavier_uniform",
    "init_zeros",
    "inverse_sigmoid",
    "masked_mean",
    "random_walk",
]
