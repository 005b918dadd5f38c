# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""How checkpoints reach the disk."""

import errno
import os
from collections.abc import Collection
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from mesm_plugin.utils import atomic_file


class CheckpointWriteError(OSError):
    """A checkpoint could not be written."""


@register_backend("mesm_checkpoint")
class CheckpointBackend(LocalBackend):
    """Local files that appear whole or not at all, and go only when told so once more.

    MMEngine removes the last checkpoint before it writes the next. Here `remove` only remembers the file, and
    `remove_outdated` removes it.
    """

    def __init__(self) -> None:
        self._outdated: list[Path] = []

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes a file.

        Raises:
            CheckpointWriteError: The disk is full, say; what stood there before is as it was.
        """
        try:
            with atomic_file(filepath) as unfinished:
                unfinished.write_bytes(obj)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            remedy = "; free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            raise CheckpointWriteError(
                f"{filepath} could not be written ({reason}, {len(obj) / 2**20:.1f} MiB){remedy}; earlier checkpoints "
                "are whole, and training goes on from the last with --resume"
            ) from error

    def remove(self, filepath: str | Path) -> None:
        """Remembers a file as one that is no longer wanted."""
        self._outdated.append(Path(filepath))

    def remove_outdated(self, kept: Collection[Path]) -> None:
        """Removes what `remove` was called for, but for the files that have been written anew since."""
        for path in self._outdated:
            if path not in kept:
                path.unlink(missing_ok=True)
        self._outdated.clear()
