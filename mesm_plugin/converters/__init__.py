# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Converters of the peers' checkpoints, one module a peer."""
