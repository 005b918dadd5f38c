# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Grounders: whole models, as MMEngine trains them."""

from mesm_plugin.models.grounders.detr_grounder import DETRGrounder, GrounderOutput

__all__ = ["DETRGrounder", "GrounderOutput"]
