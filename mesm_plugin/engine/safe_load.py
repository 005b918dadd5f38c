# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Lets checkpoints of MMEngine through torch's safe loading, which stays switched on."""

from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

STATISTICS = ("min", "max", "current", "mean")


def allow_checkpoint_classes() -> None:
    """Allows, for the rest of the process, exactly the classes that MMEngine writes into its checkpoints.

    Since torch 2.6 `torch.load` refuses every class it does not know. A checkpoint of MMEngine holds the history of the
    logged scalars as `HistoryBuffer` and NumPy arrays, without which training cannot be resumed. Any other class is
    still refused. Calling this again changes nothing.
    """
    torch.serialization.add_safe_globals([HistoryBuffer, np.ndarray, np.dtype, *_dtype_classes(), *_aliases()])


def _dtype_classes() -> set[type]:
    return {type(np.dtype(name)) for name in ("bool", "int32", "int64", "float32", "float64")}


def _aliases() -> list[tuple[Any, str]]:
    """Functions that a pickle names by a path of their own, with every path that NumPy 1 and 2 write."""
    rebuild_array = np.zeros(1).__reduce__()[0]
    rebuild_scalar = np.float64(0).__reduce__()[0]
    pairs: list[tuple[Any, str]] = [(_statistics_method, "builtins.getattr")]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        pairs += [(rebuild_array, f"{module}._reconstruct"), (rebuild_scalar, f"{module}.scalar")]
    return pairs


def _statistics_method(owner: Any, name: str) -> Any:
    """Stands in for `getattr`, by which a pickle refers to the methods a `HistoryBuffer` holds.

    Raises:
        ValueError: If a checkpoint asks for any other attribute.
    """
    if owner is not HistoryBuffer or name not in STATISTICS:
        raise ValueError(f"a checkpoint may not refer to the attribute {name!r} of {owner!r}")
    return getattr(HistoryBuffer, name)
