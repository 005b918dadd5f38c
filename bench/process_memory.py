# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Resident memory of processes that share pages."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessMemory:
    """Resident memory of one process, in bytes.

    Attributes:
        resident: All of it (RSS).
        proportional: The same with each shared page divided by the number of processes that have it (PSS), so that a
            sum over processes counts every page once.
        private: In no other process (USS).
    """

    resident: int
    proportional: int
    private: int

    @classmethod
    def of(cls, pid: int) -> "ProcessMemory":
        """As Linux tells it in `/proc/PID/smaps_rollup`.

        Raises:
            OSError: There is no such process, or the system has no such file.
        """
        sizes: dict[str, int] = {}
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
            name, _, value = line.partition(":")
            sizes[name] = int(value.split()[0]) * 2**10
        return cls(sizes["Rss"], sizes["Pss"], sizes["Private_Clean"] + sizes["Private_Dirty"])
