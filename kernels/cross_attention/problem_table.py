# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Which rows of packed buffers attend to which."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

import torch

from mesm_plugin.kernels.arguments import integer

T = TypeVar("T")


class ProblemTable:
    """Problems of a packed cross-attention: in each, a stretch of query rows attends to a stretch of key rows.

    It is checked and copied to its device once, when it is built from numbers of the host, so that a launch needs no
    synchronisation: build it with the batch, and use it for every layer. Where the attention's inputs are on another
    device, each call copies it again.

    Args:
        problems: (first query row, queries, first key row, keys) of each problem; lengths may be 0.
        device: Where the attention reads the table, that of its inputs.

    Attributes:
        problems: The list of problems.
        table: (P, 4) int32 on `device`.
        query_rows, key_rows: Rows that the buffers must have at least.
        max_queries, max_keys: Longest stretches.

    Raises:
        TypeError: A problem is no sequence of integers.
        ValueError: A problem is not four numbers of at least 0, or two problems share a row. Rows that several problems
            need must be repeated: each row gets its gradient from one program.
    """

    def __init__(self, problems: Iterable[Sequence[int]], device: torch.device | str | None = None) -> None:
        self.problems: list[tuple[int, int, int, int]] = []
        for number, problem in enumerate(_iterable("problems", problems)):
            numbers = [integer(f"problems[{number}]", x) for x in _iterable(f"problems[{number}]", problem)]
            if len(numbers) != 4 or min(numbers) < 0:
                raise ValueError(
                    f"problems[{number}] is {numbers}, expected first query row, queries, first key row and keys, "
                    "each at least 0"
                )
            if max(numbers) >= 2**31:
                raise ValueError(f"problems[{number}] is {numbers}, which int32 does not hold")
            query_row, queries, key_row, keys = numbers
            self.problems.append((query_row, queries, key_row, keys))
        self.query_rows = _end_of_disjoint("query", [(start, length) for start, length, _, _ in self.problems])
        self.key_rows = _end_of_disjoint("key", [(start, length) for _, _, start, length in self.problems])
        self.max_queries = max((length for _, length, _, _ in self.problems), default=0)
        self.max_keys = max((length for _, _, _, length in self.problems), default=0)
        self.table = torch.tensor(self.problems, dtype=torch.int32, device=device).view(-1, 4)

    @classmethod
    def from_lengths(
        cls, queries: Sequence[int], keys: Sequence[int], device: torch.device | str | None = None
    ) -> "ProblemTable":
        """A table of problems that lie back to back in both buffers.

        Args:
            queries: Query rows of each problem.
            keys: Key rows of each problem.
            device: Where the attention reads the table, that of its inputs.

        Raises:
            TypeError: A length is no integer.
            ValueError: The numbers of problems differ, or a length is negative.
        """
        queries, keys = (
            [integer(name, length) for length in _iterable(name, lengths)]
            for name, lengths in (("queries", queries), ("keys", keys))
        )
        if len(queries) != len(keys):
            raise ValueError(f"queries and keys must have one length per problem, got {len(queries)} and {len(keys)}")
        problems, query_row, key_row = [], 0, 0
        for num_queries, num_keys in zip(queries, keys, strict=True):
            problems.append((query_row, num_queries, key_row, num_keys))
            query_row += num_queries
            key_row += num_keys
        return cls(problems, device)

    def __len__(self) -> int:
        return len(self.problems)


def _iterable(name: str, value: Iterable[T]) -> Iterable[T]:
    """The argument; raises a TypeError where it cannot be iterated over."""
    try:
        return iter(value)
    except TypeError:
        raise TypeError(f"{name} must be a sequence, got {value!r} of type {type(value).__name__}") from None


def _end_of_disjoint(side: str, stretches: list[tuple[int, int]]) -> int:
    """Row after the last stretch; raises a ValueError where two overlap."""
    order = sorted((start, start + length, number) for number, (start, length) in enumerate(stretches) if length)
    for (_, end, first), (start, other_end, second) in pairwise(order):
        if start < end:
            raise ValueError(
                f"problems {first} and {second} share {side} rows {start} to {min(end, other_end) - 1}: repeat the "
                "rows, since each gets its gradient from one problem"
            )
    return order[-1][1] if order else 0
