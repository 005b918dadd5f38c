# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A video's entry in a JSON file of annotations."""

from typing import Any

from mesm_plugin.datasets.files import is_number, shown


class VideoEntry:
    """The annotations of a video, read with checks.

    Args:
        value: The JSON value.
        where: File and video, for the messages.

    Raises:
        ValueError: In all methods, too: a key is missing or its value does not fit.
    """

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{where}: expected a JSON object, got {type(value).__name__}")
        self.value = value
        self.where = where

    @staticmethod
    def count_sentences(value: Any) -> int:
        """How many sentences the JSON value of an entry has, also if it is broken otherwise."""
        texts = value.get("sentences") if isinstance(value, dict) else None
        return len(texts) if isinstance(texts, list) else 0

    def positive(self, key: str) -> float:
        """A number > 0."""
        number = self.value.get(key)
        if not is_number(number) or not number > 0:
            raise self._misfit(key, "a number > 0")
        return number

    def sentences(self) -> list[tuple[str, tuple[float, float], str]]:
        """Where it stands, moment and sentence of each query; at least one."""
        texts, moments = (self.value.get(key) for key in ("sentences", "timestamps"))
        if not (isinstance(texts, list) and texts):
            raise self._misfit("sentences", "a list of at least one sentence")
        if not (isinstance(moments, list) and len(moments) == len(texts)):
            raise self._misfit("timestamps", f"a list of [start, end] for each of the {len(texts)} sentences")
        queries = []
        for number, (moment, text) in enumerate(zip(moments, texts, strict=True), 1):
            where = f"{self.where}, sentence {number}"
            if not isinstance(text, str):
                raise ValueError(f"{where}: {shown(text)} in 'sentences' is no text")
            if not (isinstance(moment, list) and len(moment) == 2 and all(is_number(x) and x >= 0 for x in moment)):
                raise ValueError(f"{where}: {shown(moment)} in 'timestamps', expected [start, end], two numbers >= 0")
            start, end = moment
            if start == end:
                raise ValueError(f"{where}: {moment!r} in 'timestamps' has length zero; correct or delete the sentence")
            queries.append((where, (start, end), text))
        return queries

    def _misfit(self, key: str, expected: str) -> ValueError:
        found = shown(self.value[key]) if key in self.value else "missing"
        return ValueError(f"{self.where}: {key!r} is {found}, expected {expected}")
