# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Moment-DETR: the vanilla DETR of video grounding."""

from types import MappingProxyType

from mesm_plugin.models.grounders.detr_grounder import DETRGrounder
from mesm_plugin.registry import MODELS


@MODELS.register_module()
class MomentDETR(DETRGrounder):
    """Moment-DETR (Lei et al., NeurIPS 2021): words beside the clips, object queries without anchors, hinge loss.

    Arguments as `DETRGrounder`, with the authors' parts as defaults.
    """

    default_parts = MappingProxyType(
        {
            **DETRGrounder.default_parts,
            "aligner": {"type": "ConcatAligner"},
            "encoder": {"type": "DETREncoder"},
            "decoder": {"type": "DETRDecoder"},
            "saliency_head": {"type": "MLPSaliencyHead", "num_layers": 1},
            "saliency_losses": ({"type": "SaliencyHingeLoss"},),
        }
    )
