# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Converters of the peers' checkpoints, one module a peer."""

from mesm_plugin.converters.cg_detr import CG_DETR
from mesm_plugin.converters.eatr import EATR
from mesm_plugin.converters.moment_detr import MOMENT_DETR
from mesm_plugin.converters.peer import Peer
from mesm_plugin.converters.qd_detr import QD_DETR
from mesm_plugin.converters.released_mesm import RELEASED_MESM
from mesm_plugin.converters.tr_detr import TR_DETR
from mesm_plugin.converters.uvcom import UVCOM

__all__ = ["CG_DETR", "EATR", "MOMENT_DETR", "QD_DETR", "RELEASED_MESM", "TR_DETR", "UVCOM", "Peer"]
