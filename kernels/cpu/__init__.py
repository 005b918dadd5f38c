# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Operators in C++ for CPU tensors."""

from mesm_plugin.kernels.cpu.build import operators_are_loaded

__all__ = ["operators_are_loaded"]
