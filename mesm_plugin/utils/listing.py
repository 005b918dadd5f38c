# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Lists of names in messages."""

from collections.abc import Sequence


def listed(names: Sequence[object], most: int = 10) -> str:
    """The first names, separated by commas, and how many more there are: "a, b and 3 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
