# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Keeps inductor from compiling anew where a sum becomes long."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch


@contextmanager
def one_form_of_sums() -> Iterator[None]:
    """While it compiles for a CPU, inductor sums rows of symbolic number in the way that it takes for more than 4096.

    By itself it compiles short and long sums differently, and so anew for batches on the other side of 4096. The way of
    the long ones is the more exact one, and right for any number. There is no option for this in PyTorch 2.13; where a
    PyTorch has no such decision any more, nothing is changed.
    """
    from torch._inductor.codegen.cpp import CppKernel  # slow to import, and only needed to compile

    decide = getattr(CppKernel, "need_use_acc_helper", None)
    if decide is None:
        yield
        return

    def decide_without_asking(self: Any, reduction_type: str, dtype: torch.dtype, *others: Any) -> bool:
        lengths = self.call_ranges[self.reduction_depth :]
        symbolic = any(getattr(length, "free_symbols", None) for length in lengths)
        if reduction_type == "sum" and dtype == torch.float32 and symbolic:
            return True
        return decide(self, reduction_type, dtype, *others)

    with patch.object(CppKernel, "need_use_acc_helper", decide_without_asking):
        yield
