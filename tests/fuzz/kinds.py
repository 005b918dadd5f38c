# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""All kinds of files that the package reads."""

from tests.fuzz.binary_kinds import BINARY_KINDS
from tests.fuzz.text_kinds import TEXT_KINDS

KINDS = [*TEXT_KINDS, *BINARY_KINDS]
