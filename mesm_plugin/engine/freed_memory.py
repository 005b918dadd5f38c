# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What becomes of memory that tensors on a CPU have given back."""

import ctypes
import os

# Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_SETTINGS = (
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_MMAP_MAX_",
    "MALLOC_TOP_PAD_",
    "GLIBC_TUNABLES",
)


def keep_freed_memory() -> bool:
    """Lets this process keep the memory that its tensors free for those that come next.

    Only what is free at the end of the heap beyond 2 GiB still goes back to the kernel.
    By default glibc returns blocks of more than 32 MiB to the kernel, from which every page is fetched, and filled with
    zeros, again at the next step. Settings of the environment (MALLOC_TRIM_THRESHOLD_ and the like, GLIBC_TUNABLES)
    stay in force instead, and with other C libraries than glibc nothing is done.

    Returns:
        Whether it was done.
    """
    if any(name in os.environ for name in _SETTINGS):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - only glibc has it
        return bool(library.mallopt(_MMAP_MAX, 0) and library.mallopt(_TRIM_THRESHOLD, 2**31 - 1))
    except (AttributeError, OSError, TypeError):
        return False
