# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The two hot operations of MESM, imported as `mesm_plugin.kernels`; needs torch only."""
