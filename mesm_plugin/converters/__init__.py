# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Converters of the peers' checkpoints, one module a peer, and the import of a file together with its config."""

from mesm_plugin.converters.author_file import read_author_file
from mesm_plugin.converters.cg_detr import CG_DETR
from mesm_plugin.converters.checkpoint_import import import_checkpoint
from mesm_plugin.converters.eatr import EATR
from mesm_plugin.converters.find_peer import PEERS, find_peer
from mesm_plugin.converters.moment_detr import MOMENT_DETR
from mesm_plugin.converters.peer import Peer
from mesm_plugin.converters.qd_detr import QD_DETR
from mesm_plugin.converters.released_mesm import RELEASED_MESM
from mesm_plugin.converters.tr_detr import TR_DETR
from mesm_plugin.converters.uvcom import UVCOM

__all__ = [
    "CG_DETR",
    "EATR",
    "MOMENT_DETR",
    "PEERS",
    "QD_DETR",
    "RELEASED_MESM",
    "TR_DETR",
    "UVCOM",
    "Peer",
    "find_peer",
    "import_checkpoint",
    "read_author_file",
]
