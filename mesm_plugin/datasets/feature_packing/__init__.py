# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Packing features that are published as many files into one HDF5 file."""

from mesm_plugin.datasets.feature_packing.completeness import Completeness, Needed, check_completeness, read_needed
from mesm_plugin.datasets.feature_packing.packer import Packed, pack_features
from mesm_plugin.datasets.feature_packing.sources import Entry, Found, find_entries

__all__ = [
    "Completeness",
    "Entry",
    "Found",
    "Needed",
    "Packed",
    "check_completeness",
    "find_entries",
    "pack_features",
    "read_needed",
]
