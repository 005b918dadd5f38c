# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Repair of annotated moments, counted."""

from collections import Counter

from mesm_plugin.datasets.text.words import split_words

_QUIRKS = ("starting beyond the video dropped", "empty sentences dropped", "swapped ends exchanged", "late ends cut")
_BEYOND, _EMPTY, _SWAPPED, _LATE = _QUIRKS


class MomentRepair:
    """Repairs the moments of an annotation file as the released MESM code does, in its order, and counts what it did.

    A moment that starts beyond the video's end is dropped, as is one with a sentence without words; then swapped ends
    are exchanged; then an end beyond the video is cut to its duration, and a moment of which nothing is left is
    dropped.

    Args:
        strict: Raises on what would otherwise be repaired or dropped.
    """

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.counts: Counter[str] = Counter()

    def __str__(self) -> str:
        """What was done so far, for one line of the log."""
        return ", ".join(f"{self.counts[quirk]} {quirk}" for quirk in _QUIRKS)

    def __call__(
        self, start: float, end: float, duration: float, sentence: str, where: str
    ) -> tuple[float, float] | None:
        """The moment after the repairs, or None if it is dropped.

        Args:
            start: Of the moment, seconds >= 0.
            end: Of the moment, seconds >= 0, other than its start.
            duration: Of the video, seconds.
            sentence: What the moment shows.
            where: File and line, or file and entry, for the messages.

        Raises:
            ValueError: The moment needs repair and `strict` is set.
        """
        shown = f"the moment {start} to {end}"
        beyond = f"{shown} starts beyond the end of the video, {duration} s"
        if start > duration:
            self._found(_BEYOND, where, beyond)
            return None
        if not split_words(sentence):
            self._found(_EMPTY, where, f"the sentence {sentence!r} has no words")
            return None
        if start > end:
            self._found(_SWAPPED, where, f"{shown} ends before it starts")
            start, end = end, start
        if start == duration:
            # Cutting would leave nothing of it.
            self._found(_BEYOND, where, beyond)
            return None
        if end > duration:
            self._found(_LATE, where, f"{shown} ends beyond the end of the video, {duration} s")
            end = duration
        return start, end

    def _found(self, quirk: str, where: str, problem: str) -> None:
        if self.strict:
            raise ValueError(f"{where}: {problem}")
        self.counts[quirk] += 1
