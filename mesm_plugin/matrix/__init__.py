# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Every grounder with every aligner, trained on one data set."""
