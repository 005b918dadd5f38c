# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Holding videos of a training file out for validation."""

import hashlib


class Holdout:
    """Chooses videos by a hash of their ids, so that the division depends neither on the machine nor on the file.

    Args:
        part: None for all videos, "val" for those held out, "train" for the others.
        fraction: Expected share of the videos held out.

    Raises:
        ValueError: An argument is none of these.
    """

    def __init__(self, part: str | None, fraction: float) -> None:
        if part not in (None, "train", "val"):
            raise ValueError(f"holdout is {part!r}, expected None, 'train' or 'val'")
        if not 0 < fraction < 1:
            raise ValueError(f"holdout_fraction is {fraction}, expected a share between 0 and 1")
        self.part = part
        self.fraction = fraction

    def __contains__(self, vid: str) -> bool:
        """Whether a video belongs to the chosen part."""
        if self.part is None:
            return True
        draw = int.from_bytes(hashlib.sha256(vid.encode()).digest()[:8], "big") / 2**64
        return (draw < self.fraction) == (self.part == "val")

    def __str__(self) -> str:
        """For the log; empty if all videos belong."""
        return f" (holdout {self.part!r})" if self.part else ""
