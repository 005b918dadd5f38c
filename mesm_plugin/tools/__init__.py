# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
