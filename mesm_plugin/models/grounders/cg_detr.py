# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""CG-DETR: clips attend to words as far as they belong to the moment."""

from types import MappingProxyType

from mesm_plugin.models.grounders.detr_grounder import DETRGrounder
from mesm_plugin.models.grounders.qd_detr import QDDETR
from mesm_plugin.registry import MODELS


@MODELS.register_module()
class CGDETR(DETRGrounder):
    """CG-DETR (Moon et al., 2023): attention to dummies and words, a global token made of prompts.

    Arguments as `DETRGrounder`, with the authors' parts as defaults.
    """

    default_parts = MappingProxyType(
        {
            **QDDETR.default_parts,
            "aligner": {"type": "CGDETRAligner"},
            "encoder": {"type": "GlobalTokenEncoder", "token_is_key": True, "adds_token": True, "skips_padding": False},
        }
    )
