# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What a misspelt name may have been meant for."""

import difflib
from collections.abc import Collection

LISTED = 40


def suggestion(name: str, known: Collection[str]) -> str:
    """A hint at the `known` names that are near to `name`, or at all of them if none is near."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"known are {', '.join(sorted(known))}" if len(known) <= LISTED else "no known name is near"
