# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Dropout that draws its mask in C++ on CPUs."""

from mesm_plugin.kernels.dropout.seeded_dropout import Dropout, dropout

__all__ = ["Dropout", "dropout"]
