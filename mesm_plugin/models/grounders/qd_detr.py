# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""QD-DETR: query-dependent clips, DAB decoder, clip scores by a global token."""

from types import MappingProxyType

from mesm_plugin.models.grounders.detr_grounder import DETRGrounder
from mesm_plugin.registry import MODELS


@MODELS.register_module()
class QDDETR(DETRGrounder):
    """QD-DETR (Moon et al., CVPR 2023): clips attend to words, negative pairs have low clip scores.

    Arguments as `DETRGrounder`, with the authors' parts as defaults.
    """

    default_parts = MappingProxyType(
        {
            **DETRGrounder.default_parts,
            "aligner": {"type": "CrossAttentionAligner"},
            "encoder": {"type": "GlobalTokenEncoder", "token_is_key": True},
            "decoder": {"type": "DABDecoder", "anchors": "normal"},
            "saliency_losses": (
                {"type": "SaliencyHingeLoss"},
                {"type": "RankContrastiveLoss"},
                {"type": "NegativePairLoss"},
            ),
        }
    )
