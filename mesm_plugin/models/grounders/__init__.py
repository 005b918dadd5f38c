# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Grounders: whole models, as MMEngine trains them."""

from mesm_plugin.models.grounders.cg_detr import CGDETR
from mesm_plugin.models.grounders.detr_grounder import DETRGrounder, EncodedPairs, GrounderOutput, ProjectedFeatures
from mesm_plugin.models.grounders.eatr import EaTR
from mesm_plugin.models.grounders.moment_detr import MomentDETR
from mesm_plugin.models.grounders.qd_detr import QDDETR
from mesm_plugin.models.grounders.tr_detr import TRDETR
from mesm_plugin.models.grounders.uvcom import UVCOM

__all__ = [
    "CGDETR",
    "QDDETR",
    "TRDETR",
    "UVCOM",
    "DETRGrounder",
    "EaTR",
    "EncodedPairs",
    "GrounderOutput",
    "MomentDETR",
    "ProjectedFeatures",
]
