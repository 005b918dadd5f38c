# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The most memory that a function's tensors take."""

import gc
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def peak_memory(run: Callable[[], Any], device: torch.device) -> int:
    """Bytes that `run` holds at most, beyond what was held before; its results count.

    On a GPU they are those of PyTorch's allocator; on a CPU the sum over the allocations that PyTorch's profiler lists,
    which are those of compiled code, too. Buffers that libraries allocate for themselves are not seen.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    # What is freed meanwhile but was made before would count as less than nothing.
    gc.collect()
    gc.disable()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            results = run()
    finally:
        gc.enable()
    del results
    events = (event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]")
    changes = (event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return max(accumulate(changes), default=0)
