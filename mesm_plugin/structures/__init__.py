# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Data structures of video grounding."""

from mesm_plugin.structures.data_sample import GroundingDataSample
from mesm_plugin.structures.spans import cxw_to_xx, span_giou, span_iou, xx_to_cxw

__all__ = ["GroundingDataSample", "cxw_to_xx", "span_giou", "span_iou", "xx_to_cxw"]
