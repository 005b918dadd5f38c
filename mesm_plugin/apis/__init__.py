# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What programs call: grounding of new videos."""

from mesm_plugin.apis.inferencer import GroundingInferencer

__all__ = ["GroundingInferencer"]
