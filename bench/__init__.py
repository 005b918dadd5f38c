# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Benchmarks; nothing here is a test."""
