# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Looks at all inputs of a config before anything is trained with them."""
