# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Writing of submissions: JSON Lines, one record a query."""

import json
import os
from collections.abc import Iterable, Mapping
from operator import methodcaller
from typing import Any

import numpy as np

from mesm_plugin.evaluation.functional.types import FloatArray
from mesm_plugin.utils import atomic_file


def write_submission(records: Iterable[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Writes one JSON line a record; `path` appears, or is replaced, only when the file is complete.

    Folders of `path` that do not exist are made. Arrays are written as lists.

    Raises:
        ValueError: A record holds NaN or infinity; names its qid.
    """
    with atomic_file(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        file.writelines(_line_of(record) for record in records)


def rounded(values: Any) -> FloatArray:
    """Numbers as they stand in a submission, with 4 decimals, float64."""
    return np.asarray(values, dtype=np.float64).round(4)


def _line_of(record: Mapping[str, Any]) -> str:
    try:
        return json.dumps(record, allow_nan=False, default=methodcaller("tolist")) + "\n"
    except ValueError as error:
        raise ValueError(f"qid {record['qid']!r}: its predictions hold NaN or infinity: {error}") from error
