# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The tables of the paper, run again."""
