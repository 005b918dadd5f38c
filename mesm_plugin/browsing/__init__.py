# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What a data set holds, in numbers and pictures."""
